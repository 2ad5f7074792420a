//! Facts about the machine, whatever their shape: who reads the page in a year wants all of them.

use serde_json::Value;

use super::html::Html;
use super::trial::pairs;
use super::units;

/// Single facts first; what has parts follows, folded when it has many.
pub(super) fn draw(html: &mut Html, host: &Value) {
    let Value::Object(facts) = host else {
        html.leaf(
            "p",
            &[("class", "note")],
            "Nothing is known of the machine.",
        );
        return;
    };
    let single = facts
        .iter()
        .filter_map(|(name, value)| Some((name.clone(), plain(value)?)));
    pairs(html, "pairs", single);
    let mut parts: Vec<_> = facts
        .iter()
        .filter(|(_, value)| plain(value).is_none())
        .collect();
    parts.sort_by_key(|(name, _)| {
        FIRST
            .iter()
            .position(|first| first == name)
            .unwrap_or(FIRST.len())
    });
    for (name, value) in parts {
        let mut rows = Vec::new();
        flatten("", value, 0, &mut rows);
        let open: &[_] = if rows.len() <= OPEN_MAX {
            &[("open", "open")]
        } else {
            &[]
        };
        html.element("details", open, |html| {
            html.leaf("summary", &[], &format!("{name} ({})", rows.len()));
            pairs(html, "pairs", rows.into_iter());
        });
    }
}

/// A value that fits into a line; `None` for one that has parts with names, or many.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::Null => Some("not known".to_owned()),
        Value::Bool(yes) => Some(if *yes { "yes" } else { "no" }.to_owned()),
        // A set of cores without any, for one.
        Value::String(text) if text.is_empty() => Some("none".to_owned()),
        Value::String(text) => Some(text.clone()),
        // Settings are copied into commands and compared with files: no separators.
        Value::Number(number) => Some(number.to_string()),
        // Queues that are given no cores of their own are counted: how many there are is what one wants to know.
        Value::Array(values)
            if !values.is_empty() && values.iter().all(|value| value.as_str() == Some("")) =>
        {
            Some(format!("{}, with nothing set", values.len()))
        }
        Value::Array(values) if values.len() <= PLAIN_MAX => {
            let each: Option<Vec<String>> = values
                .iter()
                .map(|value| plain(value).filter(|_| !value.is_array()))
                .collect();
            let joined = each?.join(", ");
            Some(if joined.is_empty() {
                "none".to_owned()
            } else {
                joined
            })
        }
        Value::Array(_) | Value::Object(_) => None,
    }
}

/// One row for each value, named by its way from the top.
fn flatten(path: &str, value: &Value, depth: usize, rows: &mut Vec<(String, String)>) {
    if rows.len() >= ROWS_MAX {
        return;
    }
    let below = |name: &str| {
        if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path} › {name}")
        }
    };
    match value {
        _ if depth == DEPTH_MAX => rows.push((path.to_owned(), value.to_string())),
        Value::Object(facts) => {
            for (name, value) in facts {
                flatten(&below(name), value, depth + 1, rows);
            }
        }
        Value::Array(values) if plain(value).is_none() => {
            for (index, value) in values.iter().enumerate() {
                flatten(&below(&name_of(index, value)), value, depth + 1, rows);
            }
        }
        _ => rows.push((path.to_owned(), plain(value).unwrap_or_default())),
    }
    if rows.len() == ROWS_MAX {
        rows.push((
            "…".to_owned(),
            format!("more than {} are not shown", units::count(ROWS_MAX as u64)),
        ));
    }
}

/// Of a part of a list: by what it calls itself, else by its number.
fn name_of(index: usize, value: &Value) -> String {
    let named = ["name", "cpu", "id", "path"]
        .iter()
        .find_map(|key| value.get(key));
    named.and_then(plain).unwrap_or_else(|| format!("{index}"))
}

/// What a figure depends on most.
const FIRST: [&str; 4] = ["cpu", "virtualisation", "sysctl", "memory"];

/// Rows that do not hide what comes after them.
const OPEN_MAX: usize = 24;

/// Values in a line.
const PLAIN_MAX: usize = 64;

/// Rows of one folded part.
const ROWS_MAX: usize = 1_000;

/// Facts are not deeper; what is, is shown as JSON.
const DEPTH_MAX: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn facts_of_any_shape_are_rows() {
        let host = json!({
            "kernel": "6.1", "cores": [0, 1], "governor": null, "isolated": [],
            "sysctls": {"net.core.rmem_max": 4194304, "busy_poll": {"net": 0}},
            "interfaces": [{"name": "eth0", "queues": 4}, {"queues": [1, [2]]}],
            "nohz_full": "", "rx_queues": ["", ""], "tx_queues": ["0-1", ""],
        });
        let mut html = Html::default();
        draw(&mut html, &host);
        let page = html.into_string();
        for row in [
            "<dt>kernel</dt><dd>6.1</dd>",
            "<dt>cores</dt><dd>0, 1</dd>",
            "<dt>governor</dt><dd>not known</dd>",
            "<dt>isolated</dt><dd>none</dd>",
            "<dt>nohz_full</dt><dd>none</dd>",
            "<dt>rx_queues</dt><dd>2, with nothing set</dd>",
            "<dt>tx_queues</dt><dd>0-1, none</dd>",
            "<dt>net.core.rmem_max</dt><dd>4194304</dd>",
            "<dt>busy_poll › net</dt><dd>0</dd>",
            "<dt>eth0 › queues</dt><dd>4</dd>",
            "<dt>1 › queues › 0</dt><dd>1</dd>",
        ] {
            assert!(page.contains(row), "{row} is not in {page}");
        }
    }

    #[test]
    fn facts_without_end_are_bounded() {
        let mut deep = json!(1);
        for _ in 0..100 {
            deep = json!([{ "x": deep }]);
        }
        let wide: Vec<Value> = (0..5_000).map(|index| json!({"index": index})).collect();
        let mut rows = Vec::new();
        flatten("", &json!(wide), 0, &mut rows);
        assert_eq!(rows.len(), ROWS_MAX + 1);
        let mut html = Html::default();
        draw(&mut html, &json!({"deep": deep, "wide": wide}));
        draw(&mut html, &json!([1]));
        assert!(html.into_string().len() < 200_000);
    }
}
