//! What each request asks a right to, and how it is written.

use super::*;
use crate::control::{decode, encode};

/// Every request in its smallest form, with what it asks a right to.
const ALL: [(&str, Access); 58] = [
    (r#"{"group-create":{"group":"g","media":[]}}"#, Access::Change),
    (r#"{"group-add":{"group":"g","media":[]}}"#, Access::Change),
    (r#"{"group-destroy":{"group":"g"}}"#, Access::Change),
    (r#""group-list""#, Access::Read),
    (r#"{"query":{}}"#, Access::Read),
    (
        r#"{"make":{"group":"g","volume":"v","length_bytes":1,"nmirror":1,"media":[],"plexes":[],"sparse":false,"init":"sync","data":"auto","force":false}}"#,
        Access::Change,
    ),
    (
        r#"{"mirror":{"group":"g","volume":"v","nmirror":1,"media":[],"plexes":[],"sparse":false,"background":false,"force":false}}"#,
        Access::Change,
    ),
    (r#"{"remove-mirror":{"group":"g","volume":"v"}}"#, Access::Change),
    (r#"{"plex-attach":{"group":"g","plex":"p","background":false}}"#, Access::Change),
    (r#"{"plex-detach":{"group":"g","plex":"p"}}"#, Access::Change),
    (r#"{"plex-offline":{"group":"g","plex":"p"}}"#, Access::Change),
    (r#"{"plex-online":{"group":"g","plex":"p","background":false}}"#, Access::Change),
    (
        r#"{"plex-replace":{"group":"g","plex":"p","media":[],"sparse":false,"background":false,"force":false}}"#,
        Access::Change,
    ),
    (r#"{"set":{"group":"g","volume":"v"}}"#, Access::Change),
    (r#"{"resize":{"group":"g","volume":"v","length":{"grow-by":4096},"force":false}}"#, Access::Change),
    (r#"{"start":{"group":"g","volume":"v"}}"#, Access::Change),
    (r#"{"stop":{"group":"g","volume":"v"}}"#, Access::Change),
    (r#"{"start-all":{"group":"g"}}"#, Access::Change),
    (r#"{"stop-all":{"group":"g"}}"#, Access::Change),
    (
        r#"{"snap-start":{"group":"g","volume":"v","nmirror":1,"media":[],"plexes":[],"sparse":false,"background":false,"force":false}}"#,
        Access::Change,
    ),
    (r#"{"snap-wait":{"group":"g","volume":"v","nmirror":1}}"#, Access::Read),
    (r#"{"snapshot":{"group":"g","members":[],"consistency":"crash","nmirror":1}}"#, Access::Change),
    (r#"{"snap-abort":{"group":"g","volume":"v","nmirror":1}}"#, Access::Change),
    (
        r#"{"snap-back":{"group":"g","snapshot":"s","bytes_per_second":1048576,"background":false}}"#,
        Access::Change,
    ),
    (r#"{"restore":{"group":"g","snapshot":"s","safety":true,"background":false}}"#, Access::Change),
    (r#"{"undo":{"group":"g","volume":"v","background":false}}"#, Access::Change),
    (r#"{"undo-list":{"group":"g"}}"#, Access::Read),
    (r#"{"undo-delete":{"group":"g","volume":"v","archive":"1a2b3c4d"}}"#, Access::Change),
    (r#"{"remove":{"group":"g","object":"v","recursive":false,"force":false}}"#, Access::Change),
    (r#"{"explain":{"remove":{"group":"g","object":"v","recursive":false,"force":false}}}"#, Access::Change),
    // It reads whole media and holds windows of the volume: an outsider must not be able to slow it down.
    (r#"{"verify":{"group":"g","volume":"v"}}"#, Access::Change),
    (r#"{"scrub":{"group":"g","volume":"v","repair":"report","background":false}}"#, Access::Change),
    (r#"{"scrub-schedule":{"group":"g","volume":"v","repair":"report"}}"#, Access::Change),
    (r#"{"group-import":{"media":[]}}"#, Access::Change),
    (r#"{"group-remove":{"group":"g","medium":"d"}}"#, Access::Change),
    (r#"{"group-export":{"group":"g"}}"#, Access::Change),
    (r#"{"group-moved":{"group":"g","media":[]}}"#, Access::Change),
    (r#"{"group-restore":{"path":"/saved","force":false}}"#, Access::Change),
    (r#"{"task-list":{}}"#, Access::Read),
    (r#"{"task-watch":{"group":"g"}}"#, Access::Read),
    (r#"{"task-pause":{"task":1}}"#, Access::Change),
    (r#"{"task-resume":{"task":1}}"#, Access::Change),
    (r#"{"task-abort":{"task":1}}"#, Access::Change),
    (r#"{"task-throttle":{"task":1}}"#, Access::Change),
    (r#"{"task-latency":{"task":1,"latency_us":5000}}"#, Access::Change),
    (r#"{"adopt":{"group":"g","volume":"v","path":"/a"}}"#, Access::Change),
    (r#"{"release":{"group":"g","volume":"v"}}"#, Access::Change),
    (r#"{"heat":{"columns":60}}"#, Access::Read),
    (r#"{"plex-convert":{"group":"g","plex":"v-01"}}"#, Access::Change),
    (r#"{"snap-clear":{"group":"g","snapshot":"v"}}"#, Access::Change),
    (r#"{"recover":{"group":"g","start":true,"background":false}}"#, Access::Change),
    (r#"{"stats":{"group":"g","reset":true}}"#, Access::Change),
    (r#""status""#, Access::Read),
    (r#"{"overview":{"events":1}}"#, Access::Read),
    (r#"{"force-stop":{"group":"g","volume":"v"}}"#, Access::Change),
    (r#"{"upgrade":{}}"#, Access::Change),
    (r#"{"events":{"last":1,"follow":false}}"#, Access::Read),
    (r#"{"shutdown":{"stop_volumes":false}}"#, Access::Change),
];

#[test]
fn every_request_has_its_class_and_only_what_changes_nothing_is_open_to_readers() {
    let mut verbs = std::collections::BTreeSet::new();
    for (text, access) in ALL {
        let request: Request = decode(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(request.access(), access, "{}", request.verb());
        assert!(text.contains(&format!("\"{}\"", request.verb())), "{text} is called {}", request.verb());
        verbs.insert(request.verb());
    }
    assert_eq!(verbs.len(), ALL.len(), "one is there twice");
    let looks: Request = decode(br#"{"stats":{"group":"g"}}"#).unwrap();
    assert_eq!(looks.access(), Access::Read, "to look at counts changes nothing");
    // The parser tells the names of all variants: none is left out above.
    let names = serde_json::from_str::<Request>(r#""no-such-verb""#).unwrap_err().to_string();
    let known: std::collections::BTreeSet<_> =
        names.split('`').filter(|word| !word.contains(' ') && *word != "no-such-verb").collect();
    assert_eq!(known, verbs);
}

#[test]
fn a_hostile_name_does_not_pass_the_decoder() {
    for name in ["../x", "", "-rf", "a\\u0000"] {
        let body = format!(r#"{{"verify":{{"group":"default","volume":"{name}"}}}}"#);
        assert!(decode::<Request>(body.as_bytes()).is_err(), "{name}");
    }
    let body = br#"{"make":{"group":"g","volume":"v","length_bytes":1,"nmirror":1,"media":[],"plexes":[],"sparse":false,"region":5,"init":"sync","data":"auto","force":false}}"#;
    assert!(decode::<Request>(body).unwrap_err().to_string().contains("region size"));
}

#[test]
fn a_path_that_is_not_utf8_is_an_error_and_no_panic() {
    use std::os::unix::ffi::OsStringExt;
    let path = PathBuf::from(std::ffi::OsString::from_vec(vec![b'/', 0xff]));
    assert!(encode(&MediumSpec { name: None, path }).is_err());
}
