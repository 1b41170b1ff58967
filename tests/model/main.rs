//! Random operations on a volume of simulated disks, compared with an oracle; and one test for each ordering rule.

mod oracle;
mod pattern;
