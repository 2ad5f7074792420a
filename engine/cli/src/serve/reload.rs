//! SIGHUP: the configuration is read again.

use binrush_engine::{ChangeError, EngineConfig, StartError};
use serde_json::{Map, json};

use super::cluster::reach;
use super::confine;
use super::settings::Settings;
use super::{Server, ready, relay};
use crate::output::event;

/// A configuration that was gone over to.
struct Applied {
    /// What changed, in words.
    said: Vec<String>,
    /// What the user should know about it.
    warnings: Vec<String>,
}

impl Server<'_> {
    /// Reads the configuration again and goes over to it; with a wrong one, the old one goes on.
    pub(super) fn reload(&mut self) {
        self.service.reloading();
        let (done, said, mut warnings) = match self.apply() {
            Ok(Applied { said, warnings }) => (true, said, warnings),
            Err((wrong, end)) => {
                let confined = self.confined.as_ref().map(|_| confine::RELOADS.to_owned());
                (
                    false,
                    vec![wrong, end.to_owned()],
                    confined.into_iter().collect(),
                )
            }
        };
        warnings.extend(self.service.ready(&self.engine));
        let text = if self.args.json {
            let more = json!({ "done": done, "text": said, "warnings": warnings });
            event("reload", Map::new(), more)
        } else {
            let said = said.iter().map(|line| format!("reload: {line}"));
            let warnings = warnings.iter().map(|warning| format!("warning: {warning}"));
            said.chain(warnings).collect::<Vec<_>>().join("\n")
        };
        self.output.print(text);
    }

    /// Or what is wrong, and what became of it.
    fn apply(&mut self) -> Result<Applied, (String, &'static str)> {
        let new = Settings::load(self.args).map_err(|wrong| (wrong.to_string(), AS_BEFORE))?;
        let engine = &new.engine;
        if self.probe.is_some() && engine.access.lets_everybody_in() {
            // Whatever the new configuration says of the probe: it runs until the next start.
            let text = "letting everybody in needs a restart: the probe is on, which measures for senders that are known";
            return Err((text.to_owned(), AS_BEFORE));
        }
        if let Some(wrong) = relay::wrong(&self.settings, &new) {
            return Err((wrong, AS_BEFORE));
        }
        // The clusters that run are those of the start: while the configuration has others, what they need stays.
        let running = self.seats.as_ref().map(|_| &self.settings.clusters[..]);
        let unmet = running.and_then(|running| reach::unmet(running, &engine.streams));
        if let Some((cluster, me)) = unmet {
            let text = format!(
                "node {} of cluster {cluster}, which is this one, is met at {}, and nothing would listen there any more: \
                 that needs a restart",
                me.id, me.url
            );
            return Err((text, AS_BEFORE));
        }
        let stays = running.is_some_and(|running| running != new.clusters);
        let seats = self.seats.as_ref().filter(|_| !stays);
        if let Some(seats) = seats {
            let usable = seats.check(&new);
            usable.map_err(|error| (error.to_string(), AS_BEFORE))?;
        }
        let before = ready::listening(&self.engine);
        let mut access = engine.access.clone();
        let mut warnings = new.warnings.clone();
        if stays {
            let running = &self.settings.clusters;
            warnings.extend(reach::keep_in(&mut access, self.engine.access(), running));
        }
        let reloaded = self
            .engine
            .reload_with(&engine.listen, access, &engine.streams);
        // Also where it failed: what was closed all the same is not to stay open because modules send from it.
        if let Some(modules) = self.modules {
            warnings.extend(modules.send_from_open(&self.engine));
        }
        if let Some(probe) = &self.probe {
            let listeners = self.engine.listeners().map(|listener| listener.addr);
            probe.admit(self.engine.access(), listeners);
        }
        let reloaded = reloaded.map_err(|error| {
            let said = match &error {
                ChangeError::Start(StartError::Tls(error)) => new.placed(error),
                error => error.to_string(),
            };
            (said, end_of(&error))
        })?;
        if let Some(seats) = seats {
            // They were in order a moment ago.
            let reloaded = seats.reload(&new);
            reloaded.map_err(|error| (error.to_string(), HALF_DONE))?;
        }
        let after = ready::listening(&self.engine);
        let (opened, closed) = (after.without(&before), before.without(&after));
        let mut said = Vec::new();
        if !opened.is_empty() {
            said.push(format!("opened {opened}"));
        }
        if !closed.is_empty() {
            said.push(format!("closed {closed}"));
        }
        if reloaded.access {
            said.push(format!("access: {}", self.engine.access()));
        }
        if !engine.streams.listen_tls.is_empty() {
            said.push("certificates read again".to_owned());
        }
        if new.stats != self.settings.stats {
            self.settings.stats = new.stats;
            said.push(match new.stats.as_secs() {
                0 => "statistics off".to_owned(),
                seconds => format!("statistics every {seconds} s"),
            });
        }
        for what in self.settings.needs_restart(&new) {
            said.push(format!("{what} changed: takes effect at the next start"));
        }
        if stays {
            said.push(
                "until then the nodes of the clusters that run are let in, and met with the certificates of before"
                    .to_owned(),
            );
        }
        if said.is_empty() {
            said.push("nothing changed".into());
        }
        warnings.extend(reloaded.warnings.iter().map(ToString::to_string));
        for listener in self.engine.listeners() {
            if opened.has(&listener) {
                let of_listener = ready::of_listener(&listener, &self.engine, &new);
                warnings.extend(of_listener);
            }
        }
        let EngineConfig {
            listen,
            access,
            streams,
            ..
        } = new.engine;
        let old = &mut self.settings.engine;
        (old.listen, old.access) = (listen, access);
        old.streams.listen = streams.listen;
        old.streams.listen_tls = streams.listen_tls;
        old.streams.tls = streams.tls;
        Ok(Applied { said, warnings })
    }
}

/// What became of a reload that failed with `error`.
pub(super) fn end_of(error: &ChangeError) -> &'static str {
    if error.changed_nothing() {
        AS_BEFORE
    } else {
        HALF_DONE
    }
}

pub(super) const AS_BEFORE: &str = "going on as before";
pub(super) const HALF_DONE: &str = "done in part; another SIGHUP tries the rest";
