//! The configuration of an engine that is measured, on disk for as long as it takes to read it.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::Setup;
use crate::certificates::{CA, SERVER};

/// As a user would write it.
pub(super) fn engine_config(setup: &Setup) -> String {
    // Of datagrams and streams only what is measured matters, and the other is as it is everywhere.
    let (backend, stream_backend) = if setup.kind.is_stream() {
        ("recvmmsg", setup.kind.backend())
    } else {
        (setup.kind.backend(), "recv")
    };
    let gro = if setup.gro { "on" } else { "off" };
    let cores: Vec<String> = setup.cores.iter().map(ToString::to_string).collect();
    let (shards, cores, rcvbuf) = (setup.cores.len(), cores.join(","), setup.rcvbuf);
    let (listen, further) = (setup.listen, &setup.more);
    let verify = u8::from(setup.verify);
    let probe = match &setup.probe[..] {
        "" => String::new(),
        names => format!("modparam(\"binrush\", \"probe\", \"{names}\")\n"),
    };
    // Captured streams have packets of these as well.
    let more = if setup.kind.is_stream() {
        "loadmodule \"clusterer.so\"\nloadmodule \"ratelimit.so\"\nloadmodule \"cachedb_local.so\"\n"
    } else {
        ""
    };
    let tls = match &setup.certificates {
        Some(folder) if setup.kind.is_tls() => tls(folder),
        _ => String::new(),
    };
    format!(
        "listen = bin:{listen}\n\
         {tls}\
         loadmodule \"proto_bin.so\"\n\
         loadmodule \"dialog.so\"\n\
         loadmodule \"usrloc.so\"\n\
         {more}\
         modparam(\"binrush\", \"allow\", \"127.0.0.0/8\")\n\
         modparam(\"binrush\", \"shards\", {shards})\n\
         modparam(\"binrush\", \"pin\", \"{cores}\")\n\
         modparam(\"binrush\", \"backend\", \"{backend}\")\n\
         modparam(\"binrush\", \"stream_backend\", \"{stream_backend}\")\n\
         modparam(\"binrush\", \"rcvbuf\", {rcvbuf})\n\
         modparam(\"binrush\", \"gro\", \"{gro}\")\n\
         modparam(\"binrush\", \"verify\", {verify})\n\
         {probe}{further}"
    )
}

/// A listener over TLS that takes whoever has a certificate of the run's own CA, as nodes of a cluster do.
fn tls(folder: &Path) -> String {
    let file = |name| folder.join(name).display().to_string();
    let files = [
        ("certificate", file(SERVER.certificate)),
        ("private_key", file(SERVER.key)),
        ("ca_list", file(CA)),
    ];
    let files =
        files.map(|(what, path)| format!("modparam(\"tls_mgm\", \"{what}\", \"[bench]{path}\")\n"));
    format!(
        "listen = bins:127.0.0.1:0\n\
         loadmodule \"proto_bins.so\"\n\
         loadmodule \"tls_mgm.so\"\n\
         modparam(\"tls_mgm\", \"server_domain\", \"bench\")\n\
         {}",
        files.concat()
    )
}

/// A configuration on disk, until dropped.
#[derive(Debug)]
pub(super) struct ConfigFile(PathBuf);

impl ConfigFile {
    pub(super) fn write(text: &str) -> anyhow::Result<Self> {
        // One receiver runs at a time, so the process is name enough. Made anew, so that no link of another user
        // is followed.
        let path = env::temp_dir().join(format!("binrush-bench-{}.cfg", std::process::id()));
        let _ = fs::remove_file(&path);
        let context = || format!("cannot write {}", path.display());
        let mut file = fs::File::create_new(&path).with_context(context)?;
        let file_guard = Self(path.clone());
        file.write_all(text.as_bytes()).with_context(context)?;
        Ok(file_guard)
    }

    /// The arguments of `binrush` to run by it.
    pub(super) fn args(&self, tells: bool) -> Vec<OsString> {
        let stats = if tells { "1" } else { "0" };
        let options = ["serve", "--json", "--stats", stats, "--config"];
        let mut args: Vec<OsString> = options.map(OsString::from).into();
        args.push(self.0.clone().into_os_string());
        args
    }
}

impl Drop for ConfigFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receiver::{Kind, LOOPBACK};

    #[test]
    fn an_engine_is_told_everything_by_its_configuration() {
        let text = |kind, gro| {
            engine_config(&Setup {
                kind,
                rcvbuf: 4096,
                cores: vec![0, 1],
                gro,
                verify: false,
                probe: String::new(),
                tells: false,
                certificates: Some("/run/certificates".into()),
                listen: LOOPBACK,
                more: "# the end\n".to_owned(),
            })
        };
        let uring = text(Kind::EngineUring, true);
        for setting in [
            "\"shards\", 2)",
            "\"pin\", \"0,1\")",
            "\"backend\", \"io_uring\")",
            "\"rcvbuf\", 4096)",
            "\"gro\", \"on\")",
            "\"verify\", 0)",
            "listen = bin:127.0.0.1:0\n",
            "\n# the end\n",
        ] {
            assert!(uring.contains(setting), "{setting} in {uring}");
        }
        assert!(!uring.contains("tls"), "{uring}");
        let streams = text(Kind::EngineTlsUring, false);
        for setting in [
            "listen = bins:127.0.0.1:0\n",
            "\"backend\", \"recvmmsg\")",
            "\"stream_backend\", \"io_uring\")",
            "\"private_key\", \"[bench]/run/certificates/server.key\")",
        ] {
            assert!(streams.contains(setting), "{setting} in {streams}");
        }
        for kind in [Kind::Engine, Kind::EngineUring] {
            let trains = |gro| text(kind, gro).contains("\"gro\", \"on\")");
            assert_eq!((trains(true), trains(false)), (true, false));
        }
    }

    #[test]
    fn a_configuration_does_not_stay_on_disk() {
        let config = ConfigFile::write("# nothing").unwrap();
        let path = config.0.clone();
        assert_eq!(fs::read_to_string(&path).unwrap(), "# nothing");
        drop(config);
        assert!(!path.exists());
    }
}
