//! Several requests of which none is made unless all could be: each is checked before the first begins, then they are made
//! one after the other, until one is refused.

use super::answer::Answer;
use super::plan::{Options, Watch};
use super::progress::Progress;
use super::session::{self, Answered};
use crate::base::{Kind, Name, Refusal, Refused};
use crate::control::Request;
use serde_json::json;

/// How each answer becomes a result.
pub type ShowEach = fn(&Answered) -> Result<Answer, Refused>;

/// The requests, each with the object that it is about.
pub struct InTurnWork {
    /// The objects.
    pub objects: Vec<Name>,
    /// What is asked for each.
    pub requests: Vec<Request>,
    /// How each answer is shown.
    pub show: ShowEach,
}

impl InTurnWork {
    /// The same for each of `objects`.
    ///
    /// # Errors
    /// `object.twice`: what the first of both would do, the check of the second does not know.
    pub fn new(
        objects: Vec<Name>,
        request: impl Fn(Name) -> Request,
        show: ShowEach,
    ) -> Result<Self, Refused> {
        for (at, object) in objects.iter().enumerate() {
            if objects[..at].contains(object) {
                return Err(Refusal::new(
                    Kind::Usage,
                    "object.twice",
                    object,
                    "is named twice",
                    "name it once",
                ));
            }
        }
        let requests = objects.iter().cloned().map(request).collect();
        Ok(Self { objects, requests, show })
    }

    /// Check all, then do one after the other.
    ///
    /// # Errors
    /// The refusal of a check, or of the first request: nothing was done then. That of a later one stands in the answer, behind
    /// what was done, and says what was not.
    pub fn run(self, options: &Options, progress: &mut Progress) -> Result<Answer, Refused> {
        let Self { objects, requests, show } = self;
        if let [_, _, ..] = requests.as_slice() {
            let checks: Vec<Request> =
                requests.iter().map(|request| Request::Explain(Box::new(request.clone()))).collect();
            session::ask(options, &checks, Watch::Progress, progress)
                .map_err(|refused| with(refused, &[], &objects))?;
        }
        let mut done: Vec<Answer> = Vec::new();
        for (at, request) in requests.iter().enumerate() {
            let answered = session::ask(options, std::slice::from_ref(request), Watch::Progress, progress);
            match answered.and_then(|answers| answers.iter().map(show).collect::<Result<Vec<_>, _>>()) {
                Ok(answers) => done.extend(answers),
                Err(refused) => {
                    let refused = with(refused, &objects[..at], &objects[at..]);
                    if at == 0 {
                        return Err(refused);
                    }
                    let documents: Vec<_> = done.iter().map(|answer| answer.json.clone()).collect();
                    let text = done.iter().map(|answer| answer.text.as_str()).collect::<String>();
                    let json = json!({ "results": documents, "not_done": &objects[at..] });
                    return Ok(Answer::done(json, text).failing(*refused));
                }
            }
        }
        Ok(Answer::joined(done))
    }
}

/// `refused`, with what was done before it and what was not; as it is where nothing else was asked for.
fn with(mut refused: Refused, done: &[Name], not_done: &[Name]) -> Refused {
    if done.len() + not_done.len() > 1 {
        let list = |names: &[Name]| names.iter().map(Name::as_str).collect::<Vec<_>>().join(", ");
        let before = if done.is_empty() { "none".to_owned() } else { list(done) };
        let lead = if refused.way_out.is_empty() { "" } else { "; " };
        refused.way_out += &format!("{lead}done: {before}; not done: {}", list(not_done));
    }
    refused
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    #[test]
    fn a_refusal_tells_how_far_it_went() {
        let refused = || Refusal::new(Kind::Open, "volume.open", "b", "is in use", "close it");
        let [a, b, c] = ["a", "b", "c"].map(name);
        let all = [a.clone(), b.clone(), c.clone()];
        assert_eq!(with(refused(), &all[..1], &all[1..]).way_out, "close it; done: a; not done: b, c");
        assert_eq!(with(refused(), &[], &all).way_out, "close it; done: none; not done: a, b, c");
        assert_eq!(with(refused(), &[], &all[..1]).way_out, "close it");
        let twice = InTurnWork::new(vec![a.clone(), b, a], |_| Request::GroupList, |_| unreachable!());
        assert_eq!(twice.err().map(|refused| refused.id), Some("object.twice".to_owned()));
    }
}
