//! stub
use std::rc::Rc; use crate::base::Refused; use crate::state::*; use crate::ring::Medium; use super::owner::Owner;
impl Owner {
    pub(super) async fn check_label(self: &Rc<Self>, _r: &Volume, _p: &Plex, _m: &Medium) -> Result<(), Refused> { Ok(()) }
    pub(super) async fn write_labels(self: &Rc<Self>, _g: &Group, _r: &Volume, _c: &crate::catalog::Committed) -> Result<(), Refused> { Ok(()) }
    pub(super) async fn erase_labels(self: &Rc<Self>, _m: Medium, _l: u64) {}
    pub(super) async fn refuse_foreign(self: &Rc<Self>, _m: &Medium) -> Result<(), Refused> { Ok(()) }
}
