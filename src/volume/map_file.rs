//! stub
use crate::base::Errno;
use crate::bitmap::BitMap;
/// x
pub struct MapFile<T> {
    t: T,
}
impl<T> MapFile<T> {
    /// x
    pub fn on<U>(self, f: impl FnOnce(&T) -> U) -> MapFile<U> {
        MapFile { t: f(&self.t) }
    }
    /// x
    pub async fn write_pages(&self, _b: &BitMap, _p: &[usize]) -> Result<(), Errno> {
        Ok(())
    }
}
