//! Random operations on a volume of simulated disks, compared with an oracle; and one test for each ordering rule.

mod latency;
mod maps;
#[allow(dead_code, reason = "the worlds ask it more than the model does")]
mod oracle;
mod pattern;

mod pages;
mod plexes;
mod random;
mod recovery;
mod rules;
mod running;
mod site;
mod stage;
