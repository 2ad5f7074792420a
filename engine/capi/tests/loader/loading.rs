//! What is loaded, and what is not. Each error says what is wrong, where, and what to do.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown, symlink};
use std::path::Path;

use binrush::abi::module::{COMPILE_FLAGS, version};
use binrush::loader::{LoadError, Loader, Options};

use crate::workshop::{Workshop, compile, compile_with, root, run, set_mode, skip, source, text};

/// Why the module NAME is not loaded, without the path of its folder.
fn refusal(workshop: &Workshop, name: &str) -> String {
    let library = workshop.module(name);
    said(
        workshop,
        Loader::new(workshop.options()).load(None, text(&library)),
    )
}

fn said<T>(workshop: &Workshop, outcome: Result<T, LoadError>) -> String {
    let Err(error) = outcome else {
        panic!("it is loaded");
    };
    let folder = format!("{}/", text(&workshop.path("x")).trim_end_matches("/x"));
    error.to_string().replace(&folder, "")
}

#[test]
fn the_exports_of_a_library_that_it_needs_make_no_module_of_it() {
    let Some(workshop) = Workshop::open() else {
        return;
    };
    let needed = workshop.module("null_tables");
    let library = workshop.path("needs.so");
    let flags = ["-Wl,--no-as-needed", text(&needed)];
    compile_with(&source("no_exports"), &library, &flags);
    let loaded = Loader::new(workshop.options()).load(None, text(&library));
    assert!(
        matches!(loaded, Err(LoadError::NoExports { .. })),
        "{loaded:?}"
    );
}

#[test]
fn a_library_that_a_module_needs_and_others_can_replace_is_told() {
    let Some(workshop) = Workshop::open() else {
        return;
    };
    let lines = crate::support::lines();
    let open = workshop.folder("open");
    let needed = open.join("libneeded.so");
    compile(&source("no_exports"), &needed);
    set_mode(&open, 0o777);
    let library = workshop.path("leans.so");
    let flags = ["-Wl,--no-as-needed", text(&needed)];
    compile_with(&source("null_tables"), &library, &flags);
    let loaded = Loader::new(workshop.options()).load(None, text(&library));
    loaded.expect("it is a module");
    let said = lines();
    let [said] = &said[..] else {
        panic!("{said:?}");
    };
    let expected = format!(
        "null_tables: warning: it needs a library that others can replace: module {} is not to be trusted: {} can be written by everybody",
        needed.display(),
        open.display()
    );
    assert!(said.starts_with(&expected), "{said}");
}

#[test]
fn a_module_is_found_by_its_path_in_the_folder_and_in_one_of_its_own() {
    let Some(workshop) = Workshop::open() else {
        return;
    };
    let absolute = workshop.module("tutorial");
    let mpath = workshop.folder("modules");
    compile(&source("null_tables"), &mpath.join("null_tables.so"));
    let own = workshop.folder("modules/params");
    compile(&source("params"), &own.join("params.so"));
    let mut loader = Loader::new(workshop.options());
    let mpath = Some(text(&mpath));
    let ids = [
        loader.load(mpath, text(&absolute)),
        loader.load(mpath, "null_tables.so"),
        loader.load(mpath, "params.so"),
    ];
    let names: Vec<_> = ids
        .into_iter()
        .map(|id| loader.name(id.expect("it is there")))
        .collect();
    assert_eq!(names, ["tutorial", "null_tables", "params"]);
    // A name with a slash has no folder of its own.
    let error = said(&workshop, loader.load(mpath, "sub/x.so"));
    assert_eq!(
        error,
        "no module \"sub/x.so\": there is no modules/sub/x.so"
    );
    let error = said(&workshop, loader.load(mpath, "x.so"));
    assert_eq!(
        error,
        "no module \"x.so\": there is no modules/x.so and no modules/x/x.so"
    );
    // Its own folder may be a file.
    let error = said(&workshop, loader.load(mpath, "null_tables.so/y.so"));
    assert_eq!(
        error,
        "no module \"null_tables.so/y.so\": there is no modules/null_tables.so/y.so"
    );
    let modules = loader.finish();
    let files: Vec<_> = modules
        .ids()
        .map(|id| modules.file(id).to_owned())
        .collect();
    assert_eq!(files[0], absolute);
    assert_eq!(files[2], own.join("params.so"));
}

#[test]
fn a_module_of_another_server_is_refused_with_both_versions_named() {
    let Some(workshop) = Workshop::open() else {
        return;
    };
    assert_eq!(
        refusal(&workshop, "wrong_version"),
        format!(
            "module wrong_version.so was compiled for \"opensips 1.11.11 (x86_64/linux)\", this is \"{}\"; compile it with \
             the headers of this version",
            version()
        )
    );
    assert_eq!(
        refusal(&workshop, "wrong_flags"),
        format!(
            "module wrong_flags.so was compiled with \"STATS: Off, USE_IPV6, F_MALLOC, FAST_LOCK-ADAPTIVE_WAIT\", this server \
             with \"{COMPILE_FLAGS}\"; compile it with the headers of this version"
        )
    );
    let error = refusal(&workshop, "no_version");
    assert!(
        error.starts_with("module no_version.so was compiled for nothing that it would name (MODULE_VERSION is missing), this"),
        "{error}"
    );
    // A server of another version refuses ours.
    let library = workshop.module("null_tables");
    let options = Options {
        our_version: "binrush 99.0.0 (x86_64/linux)".to_owned(),
        ..workshop.options()
    };
    let error = said(&workshop, Loader::new(options).load(None, text(&library)));
    assert!(
        error.contains("\"binrush 99.0.0 (x86_64/linux)\""),
        "{error}"
    );
    assert!(error.contains(&version()), "{error}");
}

#[test]
fn a_module_in_the_layout_of_a_later_opensips_is_refused_whatever_lies_in_the_places_of_ours() {
    let Some(workshop) = Workshop::open() else {
        return;
    };
    // What we would take for flags of dlopen(3), and for texts.
    let flags = ["\"STATS: On\"", "0", "(char *)1"];
    for (number, flags) in flags.into_iter().enumerate() {
        let library = workshop.path(&format!("later{number}.so"));
        compile_with(
            &source("later_layout"),
            &library,
            &[&format!("-DFLAGS={flags}")],
        );
        let outcome = Loader::new(workshop.options()).load(None, text(&library));
        assert_eq!(
            said(&workshop, outcome),
            format!(
                "module later{number}.so is laid out as in OpenSIPS 2.2 or later, this is \"{}\" with the layout of 1.11; compile it \
                 with the headers of this version",
                version()
            )
        );
    }
    // No type of a module, and no address of the library.
    let library = workshop.path("nowhere.so");
    compile_with(&source("later_layout"), &library, &["-DTYPE=0x7fffff"]);
    let outcome = Loader::new(workshop.options()).load(None, text(&library));
    let error = said(&workshop, outcome);
    assert!(
        error.starts_with("module nowhere.so was compiled for nothing that it would name"),
        "{error}"
    );
}

#[test]
fn a_library_that_is_refused_stays_open_because_its_constructors_ran() {
    let Some(workshop) = Workshop::open() else {
        return;
    };
    let error = refusal(&workshop, "constructed");
    assert!(
        error.starts_with("module constructed.so was compiled for \"opensips"),
        "{error}"
    );
    let maps = fs::read_to_string("/proc/self/maps").expect("Linux has that");
    assert!(maps.contains("/constructed.so"));
}

#[test]
fn a_library_that_is_no_module_and_exports_that_cannot_be_are_refused() {
    let Some(workshop) = Workshop::open() else {
        return;
    };
    assert_eq!(
        refusal(&workshop, "no_exports"),
        "no_exports.so is no module: it has no symbol \"exports\" (struct module_exports exports = { ... })"
    );
    assert_eq!(
        refusal(&workshop, "no_name"),
        "the exports of module no_name.so are broken: the module's name is NULL"
    );
    assert_eq!(
        refusal(&workshop, "no_code"),
        "the exports of module no_code.so are broken: function \"nothing\" of cmds has no code"
    );
    assert_eq!(
        refusal(&workshop, "with_procs"),
        "module \"with_procs\" (with_procs.so) wants a process of its own, \"poller\"; modules run on the threads of this server \
         and nowhere else, so it cannot be loaded"
    );
    assert_eq!(
        refusal(&workshop, "undefined"),
        "cannot open module undefined.so: undefined symbol: parse_headers; this server has no such function or variable of \
         OpenSIPS"
    );
    let file = workshop.path("text.so");
    fs::write(
        &file,
        "not a library at all, but long enough to have a header",
    )
    .expect("it is ours");
    set_mode(&file, 0o644);
    let error = said(
        &workshop,
        Loader::new(workshop.options()).load(None, text(&file)),
    );
    assert!(error.starts_with("cannot open module text.so: "), "{error}");
    let folder = workshop.folder("folder.so");
    let error = said(
        &workshop,
        Loader::new(workshop.options()).load(None, text(&folder)),
    );
    assert_eq!(error, "module folder.so is no regular file");
}

#[test]
fn each_table_is_checked_to_its_end_before_anything_of_it_is_used() {
    let Some(workshop) = Workshop::open() else {
        return;
    };
    for (flaw, what) in [
        (
            "TOO_MANY_PARAMETERS",
            "function \"f\" of cmds takes 7 parameters; at most 6 are possible",
        ),
        (
            "FEWER_THAN_NO_PARAMETERS",
            "function \"f\" of cmds takes -1 parameters; at most 6 are possible",
        ),
        (
            "NO_END",
            "cmds has more than 4096 entries; it must end with an entry whose name is NULL",
        ),
        (
            "EMPTY_NAME",
            "the name of entry 0 of cmds has no bytes, or more than 128",
        ),
        (
            "ODD_TYPE",
            "parameter \"number\" of params is neither STR_PARAM nor INT_PARAM",
        ),
        (
            "NO_POINTER",
            "parameter \"number\" of params has no pointer",
        ),
        (
            "STATISTIC_WITHOUT_POINTER",
            "statistic \"counted\" of stats has no pointer",
        ),
        (
            "COMMAND_WITHOUT_CODE",
            "command \"run\" of mi_cmds has no code",
        ),
        (
            "NAME_WITH_A_BLANK",
            "the name of entry 0 of mi_cmds has bytes in it that are no printable ASCII",
        ),
    ] {
        let library = workshop.path(&format!("{flaw}.so"));
        compile_with(&source("broken"), &library, &[&format!("-D{flaw}")]);
        let outcome = Loader::new(workshop.options()).load(None, text(&library));
        assert_eq!(
            said(&workshop, outcome),
            format!("the exports of module {flaw}.so are broken: {what}")
        );
    }
    let library = workshop.path("flags.so");
    compile_with(&source("broken"), &library, &["-DODD_FLAGS"]);
    let outcome = Loader::new(workshop.options()).load(None, text(&library));
    let error = said(&workshop, outcome);
    assert!(
        error.starts_with("cannot open module flags.so: "),
        "{error}"
    );
    // Without a flaw it is a module.
    workshop.loader(&["broken"]);
}

#[test]
fn a_module_is_loaded_once_by_whatever_name() {
    let Some(workshop) = Workshop::open() else {
        return;
    };
    let library = workshop.module("null_tables");
    let mut loader = Loader::new(workshop.options());
    loader.load(None, text(&library)).expect("it is there");
    let error = said(&workshop, loader.load(None, text(&library)));
    assert_eq!(
        error,
        "module null_tables.so is loaded already; take one of the two lines away"
    );
    let linked = workshop.path("linked.so");
    fs::hard_link(&library, &linked).expect("the folder is ours");
    let error = said(&workshop, loader.load(None, text(&linked)));
    assert_eq!(
        error,
        "module linked.so is loaded already; take one of the two lines away"
    );
    let link = workshop.path("link.so");
    symlink(&library, &link).expect("the folder is ours");
    let error = said(&workshop, loader.load(None, text(&link)));
    assert_eq!(
        error,
        "module null_tables.so is loaded already; take one of the two lines away"
    );
    // Its variables are those of the one that is there, also for another server in this process.
    let error = said(
        &workshop,
        Loader::new(workshop.options()).load(None, text(&library)),
    );
    assert!(
        error.ends_with("is loaded already; take one of the two lines away"),
        "{error}"
    );
    let other = workshop.module("same_name");
    let error = said(&workshop, loader.load(None, text(&other)));
    assert_eq!(
        error,
        "module same_name.so calls itself \"null_tables\", as null_tables.so does; load one of them"
    );
    // It is open, but no module yet; and it asks for flags of its own.
    let mut loader = Loader::new(workshop.options());
    let id = loader
        .load(None, text(&other))
        .expect("nobody else is called so");
    assert_eq!(loader.name(id), "null_tables");
}

#[test]
fn nobody_else_may_write_to_a_module_or_above_it() {
    let Some(workshop) = Workshop::open() else {
        return;
    };
    let library = workshop.module("null_tables");
    let refused = |file: &Path| {
        said(
            &workshop,
            Loader::new(workshop.options()).load(None, text(file)),
        )
    };
    set_mode(&library, 0o664);
    assert_eq!(
        refused(&library),
        "module null_tables.so is not to be trusted: null_tables.so can be written by its group (mode 0664); take that away \
         with chmod go-w, or keep modules elsewhere"
    );
    set_mode(&library, 0o646);
    let error = refused(&library);
    assert!(
        error.contains("null_tables.so can be written by everybody (mode 0646)"),
        "{error}"
    );
    let inner = workshop.folder("open").join("x.so");
    set_mode(&library, 0o644);
    fs::rename(&library, &inner).expect("the folder is ours");
    set_mode(&workshop.path("open"), 0o1777);
    let error = refused(&inner);
    assert!(
        error.starts_with(
            "module open/x.so is not to be trusted: open can be written by everybody (mode 1777);"
        ),
        "{error}"
    );
    let link = workshop.path("link.so");
    symlink(&inner, &link).expect("the folder is ours");
    assert_eq!(refused(&link), error.replace("open/x.so", "link.so"));
    set_mode(&workshop.path("open"), 0o755);
    let us = fs::metadata(&inner).expect("it is there").uid();
    if us != 0 {
        skip("only root can give a file away");
        return;
    }
    chown(workshop.path("open"), Some(NOBODY), None).expect("root may");
    assert_eq!(
        refused(&inner),
        "module open/x.so is not to be trusted: open belongs to user 65534; give it to root or to user 0, as whom this runs"
    );
    chown(workshop.path("open"), Some(us), None).expect("root may");
    let mut loader = Loader::new(workshop.options());
    loader
        .load(None, text(&inner))
        .expect("all of it is ours now");
}

#[test]
fn nobody_else_may_put_another_link_on_the_way_to_a_module() {
    let Some(workshop) = Workshop::open() else {
        return;
    };
    let library = workshop.module("null_tables");
    let open = workshop.folder("open");
    let own = workshop.folder("own");
    symlink(&library, open.join("x.so")).expect("the folder is ours");
    symlink(workshop.root(), open.join("folder")).expect("the folder is ours");
    symlink("../open/x.so", own.join("hop.so")).expect("the folder is ours");
    symlink("../open/folder/null_tables.so", own.join("through.so")).expect("the folder is ours");
    symlink("loop.so", own.join("loop.so")).expect("the folder is ours");
    set_mode(&open, 0o777);
    for way in [
        "open/x.so",
        "open/folder/null_tables.so",
        "own/hop.so",
        "own/through.so",
        "own/../open/x.so",
        "open/../own/../null_tables.so",
    ] {
        let outcome = Loader::new(workshop.options()).load(None, text(&workshop.path(way)));
        assert_eq!(
            said(&workshop, outcome),
            format!(
                "module {way} is not to be trusted: open can be written by everybody (mode 0777); take that away with chmod go-w, or \
                 keep modules elsewhere"
            )
        );
    }
    let outcome = Loader::new(workshop.options()).load(None, text(&own.join("loop.so")));
    let error = said(&workshop, outcome);
    assert!(error.starts_with("cannot look at own/loop.so: "), "{error}");
    set_mode(&open, 0o755);
    Loader::new(workshop.options())
        .load(None, text(&own.join("through.so")))
        .expect("each link is ours");
}

#[test]
fn headers_and_loader_agree_on_versions_and_layouts() {
    let Some(workshop) = Workshop::open() else {
        return;
    };
    // Asserts all by itself.
    compile(&source("module_layout"), &workshop.path("module_layout.so"));
    let program = workshop.path("said.c");
    let code = "#include <stdio.h>\n#include \"sr_module.h\"\n\
                int main(void) { const char *said[] = {MODULE_VERSION}; return printf(\"%s\\n%s\", said[0], said[1]) < 0; }\n";
    fs::write(&program, code).expect("it is ours");
    let binary = workshop.path("said");
    // The inline functions of the headers have names that the server has: none is called here.
    run(std::process::Command::new("cc")
        .arg("-I")
        .arg(root().join("include"))
        .args(["-O2", "-Wl,--unresolved-symbols=ignore-all", "-o"])
        .arg(&binary)
        .arg(&program));
    let said = run(&mut std::process::Command::new(&binary));
    assert_eq!(said, format!("{}\n{COMPILE_FLAGS}", version()));
}

#[test]
fn a_module_may_have_a_name_and_a_version_of_its_own() {
    let Some(workshop) = Workshop::open() else {
        return;
    };
    let code = workshop.path("named.c");
    let text_of = "#include \"sr_module.h\"\n#define VERSION \"1.2\"\n#define OS NAME VERSION ARCH\n\
                   char named[] = OS;\n\
                   struct module_exports exports = {\"named\", MODULE_VERSION, DEFAULT_DLFLAGS, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};\n";
    fs::write(&code, text_of).expect("it is ours");
    let library = workshop.path("named.so");
    compile_with(&code, &library, &["-DNAME=\"mine\"", "-DARCH=\"any\""]);
    Loader::new(workshop.options())
        .load(None, text(&library))
        .expect("it is compiled for this version");
}

#[test]
fn each_header_can_be_the_first_one_and_stands_no_warning() {
    let Some(workshop) = Workshop::open() else {
        return;
    };
    let include = root().join("include");
    let mut folders = vec![include.clone()];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("it is there") {
            let path = entry.expect("it can be read").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            if path.extension().is_none_or(|extension| extension != "h") {
                continue;
            }
            let name = path.strip_prefix(&include).expect("it is below");
            let program = workshop.path("first.c");
            let code = format!("#include \"{0}\"\n#include \"{0}\"\n", text(name));
            fs::write(&program, code).expect("it is ours");
            for standard in ["-std=c11", "-std=gnu17"] {
                run(std::process::Command::new("cc")
                    .arg("-I")
                    .arg(&include)
                    .args([standard, "-Wall", "-Wextra", "-Werror", "-fsyntax-only"])
                    .arg(&program));
            }
            seen += 1;
        }
    }
    assert!(seen > 20, "{seen}");
}

/// By convention the user that owns nothing.
const NOBODY: u32 = 65534;
