//! What an engine says at its `/metrics` of the records that it keeps.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::patience::Patience;

/// What is there, over all tables.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) records: u64,
    /// Changes that found no room in a ring, so that they are in no log.
    pub(super) missed: u64,
}

/// Asks until there are as many records as `expected`, which are told a second late at most; then, or when that does not come,
/// for what there is.
pub(super) fn told(http: SocketAddr, expected: u64, patience: &Patience) -> anyhow::Result<Told> {
    let mut last = None;
    let what = format_args!("{expected} records");
    let waited = patience.until(what, LATE_MAX, || {
        let page = get(http).with_context(|| format!("cannot ask http://{http}/metrics"))?;
        last = told_in(&page);
        Ok(last.is_some_and(|told| told.records == expected))
    });
    match last {
        Some(last) => Ok(last),
        None => {
            waited?;
            Err(anyhow::anyhow!("http://{http}/metrics tells of no records"))
        }
    }
}

fn get(http: SocketAddr) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect_timeout(&http, ANSWER_MAX)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    write!(
        stream,
        "GET /metrics HTTP/1.1\r\nHost: {http}\r\nConnection: close\r\n\r\n"
    )?;
    let mut text = String::new();
    stream.take(LEN_MAX).read_to_string(&mut text)?;
    let status = text.lines().next().unwrap_or_default();
    ensure!(status.contains(" 200 "), "it answers \"{status}\"");
    Ok(text)
}

/// `None` where nothing is told of records.
fn told_in(page: &str) -> Option<Told> {
    let of_clusters = sum(page, "binrush_cluster_records");
    let of_tables = sum(page, "binrush_table_records");
    let records = of_clusters.into_iter().chain(of_tables);
    Some(Told {
        records: records.reduce(|sum, each| sum + each)?,
        missed: sum(page, "binrush_journal_missed_total").unwrap_or(0),
    })
}

/// Of the samples of `name`, whatever their labels; `None` where there is none.
fn sum(page: &str, name: &str) -> Option<u64> {
    let values = page.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?.strip_prefix('{')?;
        let (_, value) = rest.rsplit_once("} ")?;
        value.trim().parse::<u64>().ok()
    });
    values.reduce(|sum, value| sum + value)
}

/// The page is made anew each second, on a machine that has other things to do.
const LATE_MAX: Duration = Duration::from_secs(5);

/// Who is asked is on this host.
const ANSWER_MAX: Duration = Duration::from_secs(5);

const LEN_MAX: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    const PAGE: &str = "# TYPE binrush_cluster_records gauge\n\
        binrush_cluster_records{cluster=\"1\",capability=\"a\"} 20\n\
        binrush_cluster_records{cluster=\"1\",capability=\"b\"} 3\n\
        binrush_cluster_records_bytes{cluster=\"1\",capability=\"a\"} 900\n\
        binrush_table_records{table=\"ul\"} 4\n\
        binrush_journal_missed_total{table=\"1/a\",shard=\"0\"} 7\n";

    #[test]
    fn records_of_all_tables_are_summed_up() {
        let told = Told {
            records: 27,
            missed: 7,
        };
        assert_eq!(told_in(PAGE), Some(told));
        assert_eq!(told_in("binrush_cluster_records_bytes{} 900\n"), None);
    }

    /// What is made of a server that answers `answer`.
    fn asked(answer: &'static str) -> anyhow::Result<Told> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let http = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let told = told(http, 27, &Patience::default());
        server.join().unwrap();
        told
    }

    #[test]
    fn who_answers_anything_else_is_told_with_his_words() {
        let error = format!(
            "{:#}",
            asked("HTTP/1.1 503 Service Unavailable\r\n\r\n").unwrap_err()
        );
        assert!(
            error.contains("/metrics") && error.contains("503"),
            "{error}"
        );
    }

    #[test]
    fn records_that_are_there_are_not_waited_for() {
        const GOOD: &str = "HTTP/1.1 200 OK\r\n\r\nbinrush_table_records{table=\"ul\"} 27\n";
        assert_eq!(asked(GOOD).unwrap().records, 27);
    }
}
