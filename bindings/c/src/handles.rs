//! Handles: clients by number and generation.
//!
//! In: clients that were made. Out: pointers that point nowhere. A handle is a number in the clothes of a pointer, so that C
//! checks its type: kind, place in the table, generation of the place. It is never followed. A handle that was freed, of
//! another kind, or garbage is therefore an error, and never a crash.
//!
//! A place is used again after it was freed, under the next generation. It keeps its [`Bell`] for ever, so that waking a
//! client touches nothing that can be freed: a signal handler may do it at any moment.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::{ArcSwapOption, Guard};
use ottla_bindings_core::{Bell, Error, generation};

/// Bits of a handle, from the lowest: one that is always set (no object of C has an odd address), the kind, the place, the
/// generation.
const KIND_SHIFT: u32 = 1;
const PLACE_SHIFT: u32 = 4;
const PLACE_BITS: u32 = if usize::BITS == 64 { 22 } else { 14 };
const GENERATION_SHIFT: u32 = PLACE_SHIFT + PLACE_BITS;
const GENERATION_BITS: u32 = usize::BITS - GENERATION_SHIFT;

/// What a handle may be for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Sort {
    Config = 1,
    Producer = 2,
    Consumer = 3,
    Admin = 4,
    #[cfg(feature = "cluster")]
    Cluster = 5,
}

/// All handles of one sort.
pub(crate) struct Table<T> {
    sort: Sort,
    name: &'static str,
    places: boxcar::Vec<Place<T>>,
    /// The place that was freed last, plus one, and above it a count of the changes, so that two who take at once see each
    /// other.
    free: AtomicU64,
}

/// A place of the table.
pub(crate) struct Place<T> {
    generation: AtomicUsize,
    held: ArcSwapOption<Held<T>>,
    /// The place below in the stack of free ones, plus one.
    below: AtomicU64,
    bell: OnceLock<Bell>,
    woken: AtomicBool,
    /// The process that made it. In a fork its bell is shared with the parent, so nobody uses it again there.
    process: u32,
}

/// A client, and which handle is its.
pub(crate) struct Held<T> {
    generation: usize,
    client: T,
}

/// A client that somebody uses. It stays until this is dropped, whoever frees it meanwhile.
pub(crate) struct InUse<'a, T> {
    held: Guard<Option<Arc<Held<T>>>>,
    /// Its place.
    pub place: &'a Place<T>,
}

impl<T> std::ops::Deref for InUse<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        match &*self.held {
            Some(held) => &held.client,
            None => unreachable!("`Table::get` gives only what is there"),
        }
    }
}

impl<T> Place<T> {
    fn new() -> Self {
        Place {
            generation: AtomicUsize::new(1),
            held: ArcSwapOption::empty(),
            below: AtomicU64::new(0),
            bell: OnceLock::new(),
            woken: AtomicBool::new(false),
            process: generation(),
        }
    }

    /// The bell of this place.
    pub fn bell(&self) -> Result<&Bell, Error> {
        match self.bell.get() {
            Some(bell) => Ok(bell),
            None => {
                let bell = Bell::new()?;
                Ok(self.bell.get_or_init(|| bell))
            }
        }
    }

    /// Ends the waiting of whoever waits here, or of who does so next. Only atomics and one write.
    fn wake(&self) {
        self.woken.store(true, Ordering::Release);
        if let Some(bell) = self.bell.get() {
            bell.ring();
        }
    }

    /// Whether somebody was woken since the last time.
    pub fn was_woken(&self) -> bool {
        self.woken.load(Ordering::Acquire) && self.woken.swap(false, Ordering::AcqRel)
    }
}

impl<T> Table<T> {
    pub const fn new(sort: Sort, name: &'static str) -> Self {
        Table {
            sort,
            name,
            places: boxcar::Vec::new(),
            free: AtomicU64::new(0),
        }
    }

    /// Makes a client, in a place of its own, and gives its handle.
    pub fn insert<H>(&self, make: impl FnOnce(&Place<T>) -> Result<T, Error>) -> Result<*mut H, Error> {
        let (index, place) = self.take()?;
        let client = match make(place) {
            Ok(client) => client,
            Err(error) => {
                self.give_back(index, place);
                return Err(error);
            }
        };
        place.woken.store(false, Ordering::Release);
        let generation = place.generation.load(Ordering::Acquire);
        place.held.store(Some(Arc::new(Held { generation, client })));
        let number = generation << GENERATION_SHIFT | index << PLACE_SHIFT | (self.sort as usize) << KIND_SHIFT | 1;
        Ok(std::ptr::without_provenance_mut(number))
    }

    /// Does something with the client of a handle: as [`get`](Table::get), for calls that are made for each record.
    #[inline]
    pub fn with<H, R>(&self, handle: *const H, then: impl FnOnce(&T) -> Result<R, Error>) -> Result<R, Error> {
        let (_, place, generation) = self.find(handle)?;
        match &*place.held.load() {
            Some(found) if found.generation == generation => then(&found.client),
            _ => Err(self.not_one(handle)),
        }
    }

    /// The client of a handle.
    #[inline]
    pub fn get<H>(&self, handle: *const H) -> Result<InUse<'_, T>, Error> {
        let (_, place, generation) = self.find(handle)?;
        let held = place.held.load();
        match &*held {
            Some(found) if found.generation == generation => Ok(InUse { held, place }),
            _ => Err(self.not_one(handle)),
        }
    }

    /// Takes a client away from its handle, which is of no use from now on.
    pub fn remove<H>(&self, handle: *const H) -> Result<Arc<Held<T>>, Error> {
        let (index, place, generation) = self.find(handle)?;
        let next = generation + 1;
        let mine = place
            .generation
            .compare_exchange(generation, next, Ordering::AcqRel, Ordering::Acquire)
            .is_ok();
        let held = mine.then(|| place.held.swap(None)).flatten();
        let Some(held) = held else {
            return Err(self.not_one(handle));
        };
        // Whoever waits for it is to learn that it is gone.
        place.wake();
        self.give_back(index, place);
        Ok(held)
    }

    /// Wakes whoever waits for the client of this handle. May be called from a signal handler.
    pub fn wake<H>(&self, handle: *const H) -> bool {
        match self.place_of(handle) {
            Some((_, place, _)) => {
                place.wake();
                true
            }
            None => false,
        }
    }

    #[inline]
    fn find<H>(&self, handle: *const H) -> Result<(usize, &Place<T>, usize), Error> {
        self.place_of(handle).ok_or_else(|| self.not_one(handle))
    }

    #[inline]
    fn place_of<H>(&self, handle: *const H) -> Option<(usize, &Place<T>, usize)> {
        let number = handle.addr();
        let sort = number >> KIND_SHIFT & ((1 << (PLACE_SHIFT - KIND_SHIFT)) - 1);
        let index = number >> PLACE_SHIFT & ((1 << PLACE_BITS) - 1);
        let generation = number >> GENERATION_SHIFT;
        if number & 1 == 0 || sort != self.sort as usize {
            return None;
        }
        let place = self.places.get(index)?;
        (place.generation.load(Ordering::Acquire) == generation).then_some((index, place, generation))
    }

    #[cold]
    fn not_one<H>(&self, handle: *const H) -> Error {
        let name = self.name;
        Error::argument(match handle.is_null() {
            true => format!("the {name} is NULL"),
            false => format!("this is no {name}, or one that was freed: {handle:p}"),
        })
    }

    /// A place that nobody has.
    fn take(&self) -> Result<(usize, &Place<T>), Error> {
        let places = &self.places;
        loop {
            let free = self.free.load(Ordering::Acquire);
            let Some(index) = ((free & LOW) as usize).checked_sub(1) else {
                break;
            };
            let Some(place) = places.get(index) else { break };
            let below = place.below.load(Ordering::Relaxed);
            let next = (free & !LOW).wrapping_add(CHANGE) | below;
            let taken = self
                .free
                .compare_exchange(free, next, Ordering::AcqRel, Ordering::Acquire);
            // One of the parent's, in a fork, is not used again.
            if taken.is_ok() && place.process == generation() {
                return Ok((index, place));
            }
        }
        let index = places.push(Place::new());
        match places.get(index) {
            Some(place) if index < 1 << PLACE_BITS => Ok((index, place)),
            _ => Err(Error::new(
                ottla_bindings_core::Kind::Runtime,
                format!(
                    "there are too many handles of a {}: free those that are not needed",
                    self.name
                ),
            )),
        }
    }

    fn give_back(&self, index: usize, place: &Place<T>) {
        let exhausted = place.generation.load(Ordering::Acquire) >= (1 << GENERATION_BITS) - 1;
        if exhausted || place.process != generation() {
            return;
        }
        let mut free = self.free.load(Ordering::Acquire);
        loop {
            place.below.store(free & LOW, Ordering::Relaxed);
            let next = (free & !LOW).wrapping_add(CHANGE) | (index as u64 + 1);
            match self
                .free
                .compare_exchange(free, next, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return,
                Err(now) => free = now,
            }
        }
    }
}

/// In the word of the free places: the lower half is a place, the upper one counts.
const LOW: u64 = u32::MAX as u64;
const CHANGE: u64 = 1 << 32;

impl<T> Held<T> {
    /// The client itself.
    pub fn client(&self) -> &T {
        &self.client
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table<String> {
        Table::new(Sort::Config, "config")
    }

    fn insert(table: &Table<String>, text: &str) -> *mut u8 {
        table.insert(|_| Ok(text.to_owned())).unwrap()
    }

    #[test]
    fn a_freed_handle_is_an_error_for_ever_although_its_place_is_used_again() {
        let table = table();
        let first = insert(&table, "first");
        assert_eq!(*table.get(first).unwrap(), "first");
        table.remove(first).unwrap();
        for _ in 0..1000 {
            let next = insert(&table, "next");
            assert_ne!(first, next);
            assert!(table.get(first).is_err(), "the old one");
            assert!(table.remove(first).is_err(), "freed twice");
            assert_eq!(*table.get(next).unwrap(), "next");
            table.remove(next).unwrap();
        }
        assert_eq!(table.places.count(), 1, "one place was enough");
    }

    #[test]
    fn null_garbage_and_other_sorts_are_errors() {
        let table = table();
        let handle = insert(&table, "mine");
        let other: Table<String> = Table::new(Sort::Producer, "producer");
        let _ = insert(&other, "other");
        assert!(other.get(handle).err().unwrap().to_string().contains("no producer"));
        assert!(
            table
                .get(std::ptr::null::<u8>())
                .err()
                .unwrap()
                .to_string()
                .contains("NULL")
        );
        let on_the_stack = 7_u64;
        assert!(table.get(&raw const on_the_stack).is_err());
        for garbage in [1, 3, 0xdead_beef, usize::MAX, handle.addr() ^ 1 << PLACE_SHIFT] {
            assert!(table.get(std::ptr::without_provenance::<u8>(garbage)).is_err());
        }
    }

    #[test]
    fn who_uses_a_client_keeps_it_until_done_though_it_is_freed() {
        let table = table();
        let handle = insert(&table, "kept");
        let used = table.get(handle).unwrap();
        table.remove(handle).unwrap();
        assert_eq!(*used, "kept");
        assert!(used.place.was_woken(), "and who waits there is woken");
    }

    #[test]
    fn threads_that_make_and_free_never_share_a_place() {
        let table = table();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let table = &table;
                scope.spawn(move || {
                    for turn in 0..2000 {
                        let text = format!("{thread}-{turn}");
                        let handle = insert(table, &text);
                        assert_eq!(*table.get(handle).unwrap(), text);
                        table.remove(handle).unwrap();
                    }
                });
            }
        });
        assert!(table.places.count() <= 8);
    }
}
