//! Where the ends of children are handed in: the first comer takes them to the parent, those who come meanwhile leave
//! theirs with it. Many ends become one record, and nobody fights over the parent's next number.

use std::sync::Arc;

use engine::Outcome;
use engine::ScopeKey;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;

/// A child's end, on its way to the parent.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    /// Who is to know.
    pub(crate) parent: ScopeKey,
    /// Whose end it is.
    pub(crate) child: ScopeKey,
    /// The parent's record that forked; `None` for a child run.
    pub(crate) fork: Option<u64>,
    /// The child's index; 0 for a child run.
    pub(crate) index: u32,
    /// The number of the child's last record.
    pub(crate) seq: u64,
    /// How it ended.
    pub(crate) outcome: Outcome,
    /// Whether more than a few of its like may end at the same time.
    pub(crate) is_one_of_many: bool,
}

type Seats = Arc<Mutex<FxHashMap<ScopeKey, Vec<Told>>>>;

/// All parents that somebody is with.
#[derive(Default)]
pub(crate) struct Desk {
    seats: Seats,
}

impl Desk {
    /// Takes the seat at the parent, with this end; or leaves it with whoever sits there and answers `None`.
    pub(crate) fn enter(&self, told: Told) -> Option<Seat> {
        let mut seats = self.seats.lock();
        if let Some(left) = seats.get_mut(&told.parent) {
            left.push(told);
            return None;
        }
        let parent = told.parent.clone();
        seats.insert(parent.clone(), vec![told]);
        Some(Seat { parent, seats: self.seats.clone(), left: false })
    }
}

/// The right to take ends to one parent.
pub(crate) struct Seat {
    parent: ScopeKey,
    seats: Seats,
    left: bool,
}

impl Seat {
    /// What was handed in so far.
    pub(crate) fn collect(&self) -> Vec<Told> {
        self.seats.lock().get_mut(&self.parent).map(std::mem::take).unwrap_or_default()
    }

    /// Leaves, unless something was handed in meanwhile: then this is it, and the seat is kept.
    pub(crate) fn leave(&mut self) -> Vec<Told> {
        if self.left {
            return Vec::new();
        }
        let mut seats = self.seats.lock();
        match seats.get_mut(&self.parent) {
            Some(handed_in) if !handed_in.is_empty() => std::mem::take(handed_in),
            _ => {
                seats.remove(&self.parent);
                self.left = true;
                Vec::new()
            }
        }
    }
}

/// Whoever leaves without [`Seat::leave`] could not tell the parent: its doorbell rings again, and then all are asked, since
/// no head is kept of a visit that failed.
impl Drop for Seat {
    fn drop(&mut self) {
        if !self.left {
            self.seats.lock().remove(&self.parent);
        }
    }
}
