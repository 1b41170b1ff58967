//! `cleave events`: what is kept, then what comes.

use std::rc::Rc;

use tokio::sync::broadcast::error::RecvError;

use crate::base::{Kind, Refusal, Refused};
use crate::control::reply::Listed;
use crate::control::{Happening, Reply, Row, request};
use crate::daemon::machine::Machine;
use crate::daemon::owner::Owner;
use crate::daemon::server::Answer;

impl<M: Machine> Owner<M> {
    /// Send what happened, and with `follow` go on until the client goes. A client that is slow misses nothing that is still
    /// kept when it has caught up.
    pub(in crate::daemon) async fn events_told(
        self: &Rc<Self>,
        request: request::Events,
        answer: &Answer,
    ) -> Result<Reply, Refused> {
        let wanted = |happening: &Happening| {
            (request.group.is_none() || request.group == happening.group)
                && (request.volume.is_none() || request.volume == happening.volume)
        };
        // Listened to before the first look, so that nothing falls between.
        let mut news = self.events.subscribe();
        let mut seen = self.events.last_number();
        let mut kept: Vec<_> = self.events.since(0).into_iter().filter(wanted).collect();
        let last = usize::try_from(request.last).unwrap_or(usize::MAX);
        kept.drain(..kept.len().saturating_sub(last));
        let rows = kept.len() as u64;
        for happening in kept {
            answer.row(Row::Happened(happening)).await;
        }
        if !request.follow {
            return Ok(Reply::Listed(Listed { rows }));
        }
        loop {
            tokio::select! {
                told = news.recv() => if matches!(told, Err(RecvError::Closed)) { break },
                () = answer.closed() => break,
            }
            for happening in self.events.since(seen) {
                seen = happening.number;
                if wanted(&happening) {
                    answer.row(Row::Happened(happening)).await;
                }
            }
        }
        Err(Refusal::new(Kind::Aborted, "client.gone", "client", "went away", ""))
    }
}
