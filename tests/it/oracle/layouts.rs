//! What each packet holds: one row per name, type and version, the newest release first.
//!
//! The notation of a layout, field after field:
//!
//! | token | reads |
//! |---|---|
//! | `S` | string |
//! | `I` | int |
//! | `4` `8` `A` | object of 4, 8, 24 bytes in a string |
//! | `{012}` | int that must be one of these digits |
//! | `#128(..)` | int count, at most 128, and as many groups; `#(..)`: as many as have room |
//! | `?1(..)` `!0(..)` | the group if the last int was, was not, this |
//! | `~(..)` | the group if the last string was not empty |
//! | `*(..)` | groups to the end |
//! | `R` | bytes to the end |
//! | `C` | sync chunks to the end |
//! | `<part>` | a piece of [`PARTS`] |

use std::sync::LazyLock;

use super::Gen;

/// One line of [`LAYOUTS`].
#[derive(Debug)]
pub(super) struct Row {
    pub(super) eras: &'static str,
    pub(super) name: &'static str,
    pub(super) commands: &'static str,
    pub(super) versions: &'static str,
    pub(super) type_name: &'static str,
    /// Without `<part>`s.
    pub(super) layout: String,
}

pub(super) static ROWS: LazyLock<Vec<Row>> = LazyLock::new(|| {
    let lines = LAYOUTS.lines().filter(|line| !line.trim().is_empty());
    let row = |line: &'static str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let [eras, name, commands, versions, type_name, layout @ ..] = &words[..] else {
            unreachable!("a row has five words and a layout: {line}");
        };
        Row {
            eras,
            name,
            commands,
            versions,
            type_name,
            layout: expand(&layout.concat()),
        }
    };
    lines.map(row).collect()
});

/// The rows for a name and a command; the command `sync` stands for one chunk of a SYNC packet.
pub(super) fn rows(era: Gen, name: &[u8], command: &str) -> Result<Vec<&'static Row>, String> {
    let era_name = format!("{era:?}");
    let mut name_known = false;
    let mut found = Vec::new();
    for row in ROWS.iter() {
        if !is_listed(row.eras, &era_name) || row.name.as_bytes() != name {
            continue;
        }
        name_known = true;
        if is_listed(row.commands, command) {
            found.push(row);
        }
    }
    match (name_known, found.is_empty()) {
        (false, _) => Err(format!("unknown-name: {}", name.escape_ascii())),
        (true, true) => Err(format!("unknown-type: {} {command}", name.escape_ascii())),
        (true, false) => Ok(found),
    }
}

pub(super) fn rows_of_version(
    rows: Vec<&'static Row>,
    version: i32,
) -> Result<Vec<&'static Row>, String> {
    let spoken = |row: &&Row| row.versions == "*" || is_listed(row.versions, &version.to_string());
    let rows: Vec<_> = rows.into_iter().filter(spoken).collect();
    if rows.is_empty() {
        Err(format!("version: {version}"))
    } else {
        Ok(rows)
    }
}

/// Replaces each `<part>` of a layout by its text.
fn expand(layout: &str) -> String {
    let mut layout = layout.to_owned();
    for (part, text) in PARTS {
        layout = layout.replace(part, text);
    }
    layout
}

/// Splits `128(ab(c))d` into `128`, `ab(c)` and `d`.
pub(super) fn split_group(layout: &str) -> (&str, &str, &str) {
    let open = layout.find('(').expect("a group");
    let mut depth = 0;
    for (at, character) in layout.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => continue,
        }
        if depth == 0 {
            return (&layout[..open], &layout[open + 1..at], &layout[at + 1..]);
        }
    }
    unreachable!("an open group in {layout}");
}

/// Fewest bytes that a counted group takes: without what its conditions and counts may leave out.
pub(super) fn smallest(era: Gen, group: &str) -> usize {
    let length_size = if era == Gen::V23 { 2 } else { 4 };
    let mut depth = 0;
    let mut bytes = 0;
    for token in group.chars() {
        match token {
            '(' | '{' => depth += 1,
            ')' | '}' => depth -= 1,
            _ => {}
        }
        bytes += match token {
            'S' if depth == 0 => length_size,
            'I' | '#' if depth == 0 => 4,
            '{' if depth == 1 => 4,
            _ => 0,
        };
    }
    bytes
}

fn is_listed(list: &str, word: &str) -> bool {
    list.split(',').any(|listed| listed == word)
}

/// Shared pieces of layouts; a piece may use those below it.
const PARTS: [(&str, &str); 15] = [
    // D.1: the 18 fields all releases begin with, then what came in between, then the end.
    ("<dlg31>", "<dlg18> SSSSSS SS III I II SSS"),
    ("<dlg30>", "<dlg18> SSSSSS SS III I II"),
    ("<dlg24>", "<dlg18> SS SS III I II"),
    ("<dlg22>", "<dlg18> SS III I II"),
    ("<dlg1>", "<dlg18> SS II I II"),
    ("<dlg18>", "SSSSS III SS SS SS SS SS"),
    // D.3: `contact` has the int cflags, `contact4` the names.
    ("<insert4>", "SSS 8 <contact4> S"),
    ("<insert>", "SSS 8 <contact> S"),
    ("<contact4>", "SSSSSS 8 4 S II S I 8"),
    ("<contact>", "SSSSSS 8 4 S II I I 8"),
    ("<match>", "I ?2(#(S))"),
    // C.3.
    ("<path>", "#25(I)"),
    ("<descr>", "SSII"),
    // D.4.
    ("<tm>", "I S I A I S"),
    ("<b2b>", "ISSS SSSSSSSSSS IIIIII SS S~(ISS) R"),
];

/// Eras, name, command (`sync`: a chunk), versions (`*`: not checked), type (`-`: no name), layout.
const LAYOUTS: &str = "
V23 clusterer-internal 0 * PING             II I
V23 clusterer-internal 1 * PONG             II #128(I)
V23 clusterer-internal 2 * LS_UPDATE        II IIII <path>
V23 clusterer-internal 3 * FULL_TOP_UPDATE  II II #128(I I !0(<descr>) II #128(I)) <path>
V23 clusterer-internal 4 * UNKNOWN_ID       II
V23 clusterer-internal 5 * NODE_DESCRIPTION II <descr> <path>
V23 clusterer-internal 9 * CAP_UPDATE       II II #128(I #(SI)) I <path>
V23 clusterer-internal 9 * CAP_UPDATE       II #128(I #(SI)) I <path>
V23 clusterer-internal 8 * CAP_UPDATE       II II #128(I #(SI)) I <path>
V23 clusterer-internal 8 * CAP_UPDATE       II #128(I #(SI)) I <path>

V23 clusterer 0 * PING            II
V23 clusterer 1 * PONG            II
V23 clusterer 2 * LS_UPDATE       II III <path>
V23 clusterer 3 * FULL_TOP_UPDATE II I #64(II #64(I)) <path>
V23 clusterer 4 * UNKNOWN_ID      II
V23 clusterer 5 * JOIN_REQUEST    II
V23 clusterer 6 * JOIN_ACCEPT     II
V23 clusterer 7 * JOIN_CONFIRM    II S <descr> II I <path>
V23 clusterer 8 * TOP_DESCRIPTION II #64(I #64(I))

V23 clusterer-extra 6  * REMOVE_NODE     I
V23 clusterer-extra 6  * GENERIC_MSG     {01}SS
V23 clusterer-extra 7  * GENERIC_MSG     {01}SS
V23 clusterer-extra 7  * MI_CMD          S #20(S)
V23 clusterer-extra 8  * MI_CMD          S #20(S)
V23 clusterer-extra 10 * SYNC_REQ        S
V23 clusterer-extra 9  * SYNC_REQ        S
V23 clusterer-extra 11 2,3 SYNC          SI C
V23 clusterer-extra 10 2 SYNC            SI C
V23 clusterer-extra 12 3 SYNC_END        SI
V23 clusterer-extra 12 2 SYNC_END        S
V23 clusterer-extra 11 1,2 SYNC_END      S
V23 clusterer-extra 13 * SHTAG_ACTIVE    S
V23 clusterer-extra 12 1 SHTAG_ACTIVE    S
V23 clusterer-extra 10 1 SYNC            S R

V1      dialog 1 * CREATED   <dlg1>
V1      dialog 2 * UPDATED   <dlg1>
V22     dialog 1 1 CREATED   <dlg22>
V22     dialog 2 1 UPDATED   <dlg22>
V23     dialog 1 * CREATED   <dlg22>
V23     dialog 2 * UPDATED   <dlg22>
V1,V23  dialog 3 * DELETED   SSS
V22     dialog 3 1 DELETED   SSS
V22,V23 dialog 4 * PROFILES  *(S I !0(S) I)

V23 dialog-dlg-repl 1    3,4 CREATED      <dlg31>
V23 dialog-dlg-repl 1    2   CREATED      <dlg31>
V23 dialog-dlg-repl 1    2   CREATED      <dlg30>
V23 dialog-dlg-repl 1    1   CREATED      <dlg30>
V23 dialog-dlg-repl 1    1   CREATED      <dlg24>
V23 dialog-dlg-repl 1    1   CREATED      <dlg22>
V23 dialog-dlg-repl 2    3,4 UPDATED      <dlg31>
V23 dialog-dlg-repl 2    2   UPDATED      <dlg31>
V23 dialog-dlg-repl 2    2   UPDATED      <dlg30>
V23 dialog-dlg-repl 2    1   UPDATED      <dlg30>
V23 dialog-dlg-repl 2    1   UPDATED      <dlg24>
V23 dialog-dlg-repl 2    1   UPDATED      <dlg22>
V23 dialog-dlg-repl sync 3,4 -            <dlg31>
V23 dialog-dlg-repl sync 2   -            <dlg31>
V23 dialog-dlg-repl sync 2   -            <dlg30>
V23 dialog-dlg-repl sync 1   -            <dlg24>
V23 dialog-dlg-repl 3 4      DELETED      SSSI
V23 dialog-dlg-repl 3 1,2,3  DELETED      SSS
V23 dialog-dlg-repl 4 4      CSEQ         SSSII
V23 dialog-dlg-repl 4 2,3    CSEQ         SSSI
V23 dialog-dlg-repl 4 1      CSEQ         SSSI
V23 dialog-dlg-repl 4 1      SHTAG_ACTIVE S
V23 dialog-dlg-repl 5 4      VALUE        SIS {012} ?1(S) ?2(I)
V23 dialog-dlg-repl 5 4      VALUE        SIS {12}
V23 dialog-dlg-repl 5 1      CSEQ         SSSI
V23 dialog-prof-repl 4 *     PROFILES     *(S I !0(S) I)

V1,V23 ul 1 * AOR_INSERT     SS
V1,V23 ul 2 * AOR_DELETE     SS
V1,V23 ul 3 * CONTACT_INSERT SSS <contact>
V1,V23 ul 4 * CONTACT_UPDATE SSS <contact>
V1,V23 ul 5 * CONTACT_DELETE SSS SI
V22    ul 1 1 AOR_INSERT     SS
V22    ul 2 1 AOR_DELETE     SS
V22    ul 3 1 CONTACT_INSERT SSS <contact>
V22    ul 4 1 CONTACT_UPDATE SSS <contact>
V22    ul 5 1 CONTACT_DELETE SSS SI

V23 usrloc-contact-repl 1    5       AOR_INSERT     SSII S
V23 usrloc-contact-repl 1    2,3,4   AOR_INSERT     SSII
V23 usrloc-contact-repl 1    1       AOR_INSERT     SS
V23 usrloc-contact-repl 2    1,2,3,4,5 AOR_DELETE   SS
V23 usrloc-contact-repl 3    4,5     CONTACT_INSERT <insert4> <match>
V23 usrloc-contact-repl 3    3       CONTACT_INSERT <insert> <match>
V23 usrloc-contact-repl 3    1,2     CONTACT_INSERT <insert>
V23 usrloc-contact-repl 3    1,2     CONTACT_INSERT SSS 8 <contact>
V23 usrloc-contact-repl 3    1       CONTACT_INSERT SSS <contact>
V23 usrloc-contact-repl 4    4,5     CONTACT_UPDATE SSS <contact4> S 8 <match>
V23 usrloc-contact-repl 4    3       CONTACT_UPDATE SSS <contact> S 8 <match>
V23 usrloc-contact-repl 4    1,2     CONTACT_UPDATE SSS <contact> S 8
V23 usrloc-contact-repl 4    1       CONTACT_UPDATE SSS <contact> S
V23 usrloc-contact-repl 4    1       CONTACT_UPDATE SSS <contact>
V23 usrloc-contact-repl 5    3,4,5   CONTACT_DELETE SSS SI <match>
V23 usrloc-contact-repl 5    1,2     CONTACT_DELETE SSS SI
V23 usrloc-contact-repl sync 5       -              {0} SSII S
V23 usrloc-contact-repl sync 2,3,4   -              {0} SSII
V23 usrloc-contact-repl sync 4,5     -              {1} <insert4> <match>
V23 usrloc-contact-repl sync 3       -              {1} <insert> <match>
V23 usrloc-contact-repl sync 2       -              {1} <insert>
V23 usrloc-contact-repl sync 2       -              {1} SSS 8 <contact>

V23 ratelimit-pipe-repl 0  * PIPES      *(SIIII)
V23 ratelimit-pipe-repl 0  * PIPES      *(SIII)
V23 ratelimit-pipe-repl 10 * PIPES_EDGE I *(SIIII)
V23 ratelimit-pipe-repl 10 * PIPES_EDGE *(SIIII)
V23 ratelimit-pipe-repl 11 * PIPES_CORE I *(SIIII)
V22,V23 ratelimit       0  * PIPES      *(SIII)

V23 tm-repl 1 * REPLY       <tm>
V23 tm-repl 2 * REQUEST     <tm>
V23 tm-repl 3 * AUTO_CANCEL <tm> I!0(I) I!0(I) I!0(I) I S I

V23 presence 1    1 PUBLISH SSSSS II SSSS
V23 presence 2    1 QUERY   SS
V23 presence sync 1 -       SSSSS II SSSS
V23 presence 101  * PUBLISH SSSSS II SSSS
V23 presence 102  * QUERY   SS
V23 presence 10001 * SHTAG_ACTIVE S
V23 pua      1    1 UPDATE  SISIS

V23 load_balancer-status-repl 1    1 STATUS           ISI
V23 load_balancer-status-repl sync 1 -                ISI
V23 load_balancer             1    1 STATUS           ISI
V23 dispatcher-status-repl    1    1 STATUS           SISII
V23 dispatcher-status-repl    sync 1 -                SISI
V23 drouting-status-repl      1    1 GATEWAY_STATUS   SSI
V23 drouting-status-repl      2    1 CARRIER_STATUS   SSI
V23 drouting-status-repl      sync 1 -                I SSI
V23 drouting                  1    1 GATEWAY_STATUS   SSI
V23 drouting                  2    1 CARRIER_STATUS   SSI

V23 cachedb-local-repl 1    * INSERT SSSI
V23 cachedb-local-repl 2    * REMOVE SS
V23 cachedb-local-repl sync * -      SSSI

V23 b2be-entities-repl 1    1 CREATE       <b2b>
V23 b2be-entities-repl 2    1 UPDATE       <b2b>
V23 b2be-entities-repl 3    1 PARAM_UPDATE ISSS S
V23 b2be-entities-repl 4    1 ACK          <b2b>
V23 b2be-entities-repl 5    1 DELETE       ISSS R
V23 b2be-entities-repl sync 1 -            <b2b>
";
