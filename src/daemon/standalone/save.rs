//! `cleave group save`: the configuration of a group as it was committed last, for `cleave group restore`.

use std::path::Path;

use crate::base::{Kind, Refusal, Refused};
use crate::catalog::{group_directories, look};

use super::{Question, name, unreadable};

pub(super) fn save(question: &Question, state: &Path) -> Result<String, Refused> {
    let wanted = name(question.object.as_deref().unwrap_or_default())?;
    for directory in group_directories(state)? {
        let texts = look::texts(&directory).map_err(|error| unreadable(&directory, &error))?;
        let Some((generation, group)) = look::best(&texts).filter(|(_, group)| *group.name() == wanted)
        else {
            continue;
        };
        let is_it = |text: &&look::Text| {
            text.read.as_ref().is_ok_and(|(other, found)| *other == generation && found == group)
        };
        if let Some(text) = texts.iter().find(is_it) {
            return Ok(String::from_utf8_lossy(&text.bytes).into_owned());
        }
    }
    let reason = format!("no configuration of a group of this name can be read in {}", state.display());
    Err(Refusal::new(Kind::NoGroup, "save.unknown", &wanted, reason, "see what there is: cleave dump"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;
    use crate::format::config;
    use crate::state::change::create_group;
    use crate::state::{Group, Ids};

    #[test]
    fn the_newest_configuration_is_printed_as_it_stands() {
        let root = tempfile::tempdir().unwrap();
        let group = create_group("g", &[], &mut Ids::from_seed([1; 32])).unwrap();
        let (mut catalog, _) = Catalog::create(&root.path().join("g"), &group).unwrap();
        let committed = catalog.commit(&group).unwrap();
        let question = |group: &str| Question {
            verb: "save".to_owned(),
            object: Some(group.to_owned()),
            group: None,
            medium: None,
            state: None,
            socket: root.path().join("control"),
        };
        let text = save(&question("g"), root.path()).unwrap();
        assert_eq!(text, committed.text);
        assert_eq!(config::decode::<Group>(text.as_bytes()).unwrap(), (committed.generation, group));
        let refused = save(&question("h"), root.path()).unwrap_err();
        assert_eq!((refused.id.as_str(), refused.kind), ("save.unknown", Kind::NoGroup));
    }
}
