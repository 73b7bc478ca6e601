//! The listings of running scans, for backends that can only list all names together. A scan lists
//! and sorts the names of its kind first, then reads pages. A page without a listing lists again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// The current listing of each running scan, by its name.
pub(super) struct ScanCache<T>(Mutex<HashMap<String, Arc<[T]>>>);

impl<T> Default for ScanCache<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone + Ord> ScanCache<T> {
    /// Returns the items of a page, and the last of them if there are more. `list` lists all, sorted.
    pub(super) async fn page<E>(
        &self,
        scan: &str,
        after: Option<T>,
        limit: usize,
        list: impl Future<Output = Result<Vec<T>, E>>,
    ) -> Result<(Vec<T>, Option<T>), E> {
        let cached = after.as_ref().and_then(|_| self.0.lock().ok()?.get(scan).cloned());
        let is_new = cached.is_none();
        let listing: Arc<[T]> = match cached {
            Some(listing) => listing,
            None => list.await?.into(),
        };
        let start = after.map_or(0, |after| listing.partition_point(|item| *item <= after));
        let end = listing.len().min(start + limit);
        let items = listing[start..end].to_vec();
        let next = items.last().filter(|_| end < listing.len()).cloned();
        if let Ok(mut listings) = self.0.lock() {
            // Keep only a kind's latest scan by expiry: an older one may be abandoned.
            if let Some((kind, _)) = scan.split_once(" until ").filter(|_| is_new) {
                listings.retain(|other, _| !other.starts_with(&format!("{kind} until ")));
            }
            match &next {
                Some(_) => drop(listings.insert(scan.to_owned(), listing)),
                None => drop(listings.remove(scan)),
            }
        }
        Ok((items, next))
    }
}
