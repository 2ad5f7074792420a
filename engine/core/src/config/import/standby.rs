//! Whose place it is: that of the node of the file, that of one of its neighbours, or one of its own beside them.

use std::net::SocketAddr;

use super::draft::{BinListener, Draft, Parameter};
use super::{ImportError, ImportOptions, Reason};
use crate::config::listener::{Endpoint, Protocol};
use crate::config::modules::Part;
use crate::config::source::Place;
use crate::config::syntax::Value;

/// Puts what `options` say over what the file says.
///
/// # Errors
/// [`ImportError::NoCluster`], [`ImportError::NoAddress`].
pub(super) fn stand(draft: &mut Draft, options: &ImportOptions) -> Result<(), ImportError> {
    take_no_tag(draft);
    let mut listen = options.listen.clone();
    let own = own_id(draft);
    match options.node {
        Some(node) if own != Some(node) => be_node(draft, node, own, &mut listen)?,
        _ => be_elsewhere(draft, &listen),
    }
    if !listen.is_empty() {
        listen_at(draft, &listen);
    }
    Ok(())
}

/// The same node: others find it at the new address.
fn be_elsewhere(draft: &mut Draft, listen: &[Endpoint]) {
    let Some(first) = listen.first() else {
        return;
    };
    for parameter in nodes(draft, MY_INFO) {
        let info = Info::read(parameter);
        let url = info.get("url").unwrap_or_default();
        let url = fitting(listen, url).unwrap_or(*first);
        parameter.value = Value::Text(info.with("url", &url.to_string()).to_string());
    }
}

/// Has the node be `node` and not `own`, which becomes a neighbour. `listen` becomes its address where that was empty.
fn be_node(
    draft: &mut Draft,
    node: i32,
    own: Option<i32>,
    listen: &mut Vec<Endpoint>,
) -> Result<(), ImportError> {
    let is_clusterer = |(part, _): &(Part, Option<Place>)| *part == Part::Clusterer;
    if !draft.loaded.iter().any(is_clusterer) {
        return Err(ImportError::NoCluster { node });
    }
    set_own_id(draft, node);
    let mut neighbours = Vec::new();
    for parameter in nodes(draft, MY_INFO) {
        let before = Info::read(parameter);
        let cluster = before.get("cluster_id").unwrap_or_default().to_owned();
        neighbours.push((cluster, before, parameter.place.clone()));
    }
    for (index, (cluster, before, place)) in neighbours.into_iter().enumerate() {
        let taken = take_over(draft, &cluster, node);
        if listen.is_empty() {
            let url = taken.and_then(|url| url.parse().ok());
            *listen = vec![url.ok_or(ImportError::NoAddress { node })?];
        }
        let old_url = before.get("url").unwrap_or_default();
        let url = fitting(listen, old_url).unwrap_or(listen[0]);
        if let Some(mine) = nodes(draft, MY_INFO).nth(index) {
            let info = format!("cluster_id={cluster}, url={url}");
            mine.value = Value::Text(info);
        }
        if let Some(own) = own {
            let info = before.with("node_id", &own.to_string());
            draft.parameters.push(Parameter {
                part: Part::Clusterer,
                name: NEIGHBOUR,
                value: Value::Text(info.to_string()),
                place,
            });
        }
    }
    Ok(())
}

/// Leaves out the neighbour with this id in this cluster, because it is us. Its URL.
fn take_over(draft: &mut Draft, cluster: &str, node: i32) -> Option<String> {
    let id = node.to_string();
    let is_it = |parameter: &Parameter| {
        let info = Info::read(parameter);
        parameter.part == Part::Clusterer
            && parameter.name == NEIGHBOUR
            && info.get("cluster_id") == Some(cluster)
            && info.get("node_id") == Some(&id)
    };
    let index = draft.parameters.iter().position(is_it)?;
    let taken = draft.parameters.remove(index);
    if let Some(place) = &taken.place {
        let what = format!("neighbor_node_info of node {node}");
        let detail = "this is that node now";
        draft.leave_as(place.clone(), &what, Reason::Replaced, Some(detail));
    }
    Info::read(&taken).get("url").map(str::to_owned)
}

/// Replaces the addresses of the node.
fn listen_at(draft: &mut Draft, listen: &[Endpoint]) {
    let is_legacy =
        !draft.listeners.is_empty() && draft.listeners.iter().all(|each| each.is_legacy);
    let before = std::mem::take(&mut draft.listeners);
    if is_legacy {
        // Nodes of 1.x say whom they send to, and not who sends: of the node of the file this address alone tells.
        let known = before.iter().map(|listener| listener.host.clone());
        draft.allow.extend(known);
    }
    for listener in before {
        if let Some(place) = &listener.place {
            let what = listener.text();
            let detail = "the address is another";
            draft.leave_as(place.clone(), &what, Reason::Replaced, Some(detail));
        }
    }
    draft.listeners.extend(listen.iter().map(|endpoint| {
        let (host, port) = host_port(endpoint.addr);
        BinListener {
            protocol: endpoint.protocol,
            host,
            port: Some(port),
            tag: None,
            is_legacy: is_legacy && endpoint.protocol == Protocol::Bin,
            place: None,
        }
    }));
}

/// binrush knows each sharing tag as a backup does, and never takes one.
fn take_no_tag(draft: &mut Draft) {
    let mut told = Vec::new();
    for parameter in &mut draft.parameters {
        if (parameter.part, parameter.name) != (Part::Clusterer, "sharing_tag") {
            continue;
        }
        if let Value::Text(text) = &mut parameter.value
            && let Some((tag, state)) = text.split_once('=')
            // Genuine nodes take blanks around the state as we do (3.6 `sharing_tags.c`, `shtag_modparam_func`).
            && state.trim() == "active"
        {
            let tag = tag.trim_end();
            *text = format!("{tag}=backup");
            told.extend(parameter.place.clone());
        }
    }
    for place in told {
        let detail = "binrush follows tags and takes none: it is \"=backup\" here";
        draft.leave_as(
            place,
            "\"=active\" of a sharing_tag",
            Reason::Replaced,
            Some(detail),
        );
    }
}

/// The id that the file gives its node.
pub(super) fn own_id(draft: &Draft) -> Option<i32> {
    let of_clusterer = |name: &'static str| {
        let parameters = draft.parameters.iter();
        parameters.filter(move |each| each.part == Part::Clusterer && each.name == name)
    };
    let set = of_clusterer(MY_ID).find_map(|each| match each.value {
        Value::Int(id) => Some(id),
        Value::Text(_) => None,
    });
    set.or_else(|| {
        of_clusterer(MY_INFO).find_map(|each| Info::read(each).get("node_id")?.parse().ok())
    })
}

fn set_own_id(draft: &mut Draft, node: i32) {
    let mut parameters = draft.parameters.iter_mut();
    let known = parameters.find(|each| each.part == Part::Clusterer && each.name == MY_ID);
    if let Some(known) = known {
        known.value = Value::Int(node);
        return;
    }
    let first = Parameter {
        part: Part::Clusterer,
        name: MY_ID,
        value: Value::Int(node),
        place: None,
    };
    draft.parameters.insert(0, first);
}

/// The parameters of `clusterer` with this name.
fn nodes<'a>(
    draft: &'a mut Draft,
    name: &'static str,
) -> impl Iterator<Item = &'a mut Parameter> + use<'a> {
    let parameters = draft.parameters.iter_mut();
    parameters.filter(move |each| each.part == Part::Clusterer && each.name == name)
}

/// The first of `listen` with the protocol of this URL.
fn fitting(listen: &[Endpoint], url: &str) -> Option<Endpoint> {
    let (protocol, _) = url.split_once(':')?;
    let protocol = Protocol::named(protocol)?;
    listen
        .iter()
        .find(|each| each.protocol == protocol)
        .copied()
}

fn host_port(addr: SocketAddr) -> (String, u16) {
    let text = addr.to_string();
    let host = text.rsplit_once(':').map_or(&text[..], |(host, _)| host);
    (host.to_owned(), addr.port())
}

impl BinListener {
    /// As a statement.
    pub(super) fn text(&self) -> String {
        let port = self
            .port
            .map_or_else(String::new, |port| format!(":{port}"));
        let host = &self.host;
        if self.is_legacy {
            return format!("bin_listen = {host}{port}");
        }
        let tag = self
            .tag
            .as_ref()
            .map_or_else(String::new, |tag| format!(" tag {tag}"));
        format!("socket = {}:{host}{port}{tag}", self.protocol.name())
    }
}

/// `key=value, key=value`, as nodes are written.
#[derive(Debug, Clone)]
struct Info(Vec<(String, String)>);

impl Info {
    fn read(parameter: &Parameter) -> Self {
        let Value::Text(text) = &parameter.value else {
            return Self(vec![]);
        };
        let fields = text.split(',').filter_map(|field| field.split_once('='));
        let fields = fields.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()));
        Self(fields.collect())
    }

    /// Of a key that is there twice the first counts.
    fn get(&self, key: &str) -> Option<&str> {
        let mut fields = self.0.iter();
        let found = fields.find(|(known, _)| known == key);
        found.map(|(_, value)| &value[..])
    }

    fn with(mut self, key: &str, value: &str) -> Self {
        match self.0.iter_mut().find(|(known, _)| known == key) {
            Some((_, known)) => *known = value.to_owned(),
            None => self.0.push((key.to_owned(), value.to_owned())),
        }
        self
    }
}

impl std::fmt::Display for Info {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, (key, value)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{key}={value}")?;
        }
        Ok(())
    }
}

const MY_ID: &str = "my_node_id";
const MY_INFO: &str = "my_node_info";
const NEIGHBOUR: &str = "neighbor_node_info";
