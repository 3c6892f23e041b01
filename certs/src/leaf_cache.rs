//! The TLS configurations of the names that are in use, each minted once and kept while fresh.
//!
//! **Invariant:** never more than `capacity` names are held; the least recently asked for goes
//! first, so a flood of names costs the flooder's own time and no memory.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use rustls::ServerConfig;

use crate::{CertError, CertificateAuthority, LeafName, authority::Identity};

/// Names that a cache holds unless told otherwise. A browser or a package manager uses hundreds in
/// a day; an entry is under 2 KiB, so a full cache stays under 8 MiB.
pub const DEFAULT_CAPACITY: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

/// A bounded cache of TLS configurations by name, to be shared by all connections of an instance.
pub struct LeafCache {
    authority: Arc<CertificateAuthority>,
    capacity: NonZeroUsize,
    entries: Mutex<Entries>,
}

impl LeafCache {
    /// An empty cache in front of `authority`, for at most `capacity` names.
    #[must_use]
    pub fn new(authority: Arc<CertificateAuthority>, capacity: NonZeroUsize) -> Self {
        Self { authority, capacity, entries: Mutex::default() }
    }

    /// The configuration to accept a connection for `name` with; mints the leaf where none is held
    /// or the one held has less than a quarter of its time left.
    ///
    /// However many threads ask for a new name at once, one mints and the others wait for it: one
    /// signature, some tens of microseconds.
    ///
    /// # Errors
    /// What minting returns, mainly [`CertError::AuthorityExpired`]. Nothing is remembered of a
    /// failure; the next caller tries again.
    pub fn server_config(&self, name: &LeafName, now: SystemTime) -> Result<Arc<ServerConfig>, CertError> {
        let slot = lock(&self.entries).slot(name, self.capacity);
        // Only askers for this name wait here, and only while one of them mints.
        let mut held = lock(&slot);
        if let Some(identity) = held.as_ref().filter(|identity| identity.fresh.contains(&now)) {
            return Ok(Arc::clone(&identity.config));
        }
        let minted = self.authority.mint(name, now)?;
        let config = Arc::clone(&minted.config);
        *held = Some(minted);
        Ok(config)
    }

    /// Names held now.
    #[must_use]
    pub fn len(&self) -> usize {
        lock(&self.entries).by_name.len()
    }

    /// Whether no name is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for LeafCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeafCache").field("names", &self.len()).finish_non_exhaustive()
    }
}

/// What is held for one name; nothing until its first asker has minted it.
type Slot = Mutex<Option<Identity>>;

struct Entry {
    slot: Arc<Slot>,
    /// This name's key in [`Entries::by_use`].
    used: u64,
}

/// Slots by name, and names in the order of their last use.
#[derive(Default)]
struct Entries {
    by_name: HashMap<LeafName, Entry>,
    by_use: BTreeMap<u64, LeafName>,
    uses: u64,
}

impl Entries {
    /// The slot of `name`, now the most recently used; a new one where there is none.
    fn slot(&mut self, name: &LeafName, capacity: NonZeroUsize) -> Arc<Slot> {
        self.uses += 1;
        let used = self.uses;
        if let Some(entry) = self.by_name.get_mut(name) {
            self.by_use.remove(&entry.used);
            entry.used = used;
            self.by_use.insert(used, name.clone());
            return Arc::clone(&entry.slot);
        }
        self.make_room(capacity);
        let slot = Arc::<Slot>::default();
        self.by_use.insert(used, name.clone());
        self.by_name.insert(name.clone(), Entry { slot: Arc::clone(&slot), used });
        slot
    }

    fn make_room(&mut self, capacity: NonZeroUsize) {
        while self.by_name.len() >= capacity.get()
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.by_name.remove(&oldest);
        }
    }
}

/// No code that runs under these locks panics; were it to, the next asker goes on with what is held.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
