//! Fences (ordering rule 20): the last operation of a daemon that is gone may still be under way on a medium. Its lock is
//! waited for, and who asks is told so meanwhile.

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use crate::base::{Name, Uuid};
use crate::control::What;
use crate::ring::{Fault, MediumError, Opening};

use super::events::News;
use super::machine::Machine;
use super::owner::Owner;

/// What a medium is to its volume.
pub(super) enum Object<'a> {
    /// One of its plexes.
    Plex(&'a Name),
    /// One of its state files, by the file's name.
    State(&'a str),
}

impl Object<'_> {
    fn shown(&self) -> String {
        match self {
            Self::Plex(plex) => plex.to_string(),
            Self::State(file) => (*file).to_owned(),
        }
    }
}

impl<M: Machine> Owner<M> {
    /// Open a medium of `volume`, waiting up to `patience` for the lock of a daemon that is gone. The wait is told as an
    /// event, and noted in the volume's status while it lasts.
    pub(super) async fn open_fenced(
        self: &Rc<Self>,
        volume: Uuid,
        object: Object<'_>,
        path: &Path,
        opening: Opening,
        patience: Duration,
    ) -> Result<M::Medium, MediumError> {
        match self.machine.open(path, opening).await {
            Err(MediumError { fault: Fault::InUse { .. }, .. }) => {}
            outcome => return outcome,
        }
        let Some(group) = self.group_of(volume) else {
            return self.machine.open(path, opening.waiting(patience)).await;
        };
        let name = group.record().volume_by_id(volume).map(|volume| volume.name().clone());
        let about = |news: News| {
            let news = match &name {
                Some(name) => news.of_volume(&group.name, name),
                None => news.of_group(&group.name),
            };
            match object {
                Object::Plex(plex) => news.of_plex(plex),
                Object::State(_) => news,
            }
        };
        let line = format!("waiting for fence: {}", object.shown());
        self.events.raise(about(News::new(What::FenceWaiting, line.clone())));
        let waiting = name.as_ref().map(|name| self.events.waiting(&group.name, name, line));
        let opened = self.machine.open(path, opening.waiting(patience)).await;
        drop(waiting);
        if opened.is_ok() {
            let text = format!("the fence of {} has passed", object.shown());
            self.events.raise(about(News::new(What::FencePassed, text)));
        }
        opened
    }
}
