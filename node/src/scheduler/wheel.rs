//! A hierarchical timing wheel: what is due when, to the millisecond.
//!
//! After Varghese and Lauck, "Hashed and Hierarchical Timing Wheels" (1987). Level 0 has one slot a
//! millisecond, each level above has slots 64 times as wide; eleven levels span every instant a
//! [`Timestamp`] can hold, so there is no overflow list and no jump is too far. An item sits at the
//! level of the highest bit in which its instant differs from the wheel's position: all items
//! of one instant are therefore always in the same slot, which is what keeps them in order.

use domain::time::Timestamp;
use std::collections::BTreeMap;
use std::fmt;

/// Bits of an instant that one level tells apart.
const LEVEL_BITS: u32 = 6;
/// Slots of one level: as many as one word of occupancy bits.
const SLOTS: usize = 1 << LEVEL_BITS;
/// Levels that together hold all 64 bits of an instant.
const LEVELS: usize = 11;

const _: () = assert!(LEVELS * LEVEL_BITS as usize >= 64);

/// Items by due instant. Knows nothing of clocks, tasks or the cluster.
///
/// The wheel's position only ever moves forward. What is inserted behind it (something overdue, or
/// anything at all after the clock stepped back) waits in an ordered map beside the slots.
pub struct Wheel<T> {
    position: u64,
    levels: Vec<Level<T>>,
    /// Everything due before `position`; the number keeps the order of insertion.
    behind: BTreeMap<(Timestamp, u64), T>,
    behind_sequence: u64,
    len: usize,
}

struct Level<T> {
    /// Bit n is set when slot n holds something.
    occupied: u64,
    slots: Vec<Vec<(Timestamp, T)>>,
}

impl<T> Level<T> {
    fn new() -> Self {
        Self { occupied: 0, slots: std::iter::repeat_with(Vec::new).take(SLOTS).collect() }
    }

    fn first_occupied(&self) -> Option<u32> {
        (self.occupied != 0).then(|| self.occupied.trailing_zeros())
    }
}

impl<T> Wheel<T> {
    /// An empty wheel whose position is `now`.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        Self {
            position: now.as_millis(),
            levels: std::iter::repeat_with(Level::new).take(LEVELS).collect(),
            behind: BTreeMap::new(),
            behind_sequence: 0,
            len: 0,
        }
    }

    /// Adds an item. One whose instant has passed is taken by the next [`Wheel::advance`].
    pub fn insert(&mut self, due: Timestamp, item: T) {
        self.len += 1;
        if due.as_millis() < self.position {
            self.behind.insert((due, self.behind_sequence), item);
            self.behind_sequence += 1;
        } else {
            self.place(due, item);
        }
    }

    /// Takes everything due at or before `now`, earliest first, and in order of insertion within
    /// one millisecond.
    ///
    /// `now` may be earlier than it was the last time: nothing is lost, and what is due after
    /// `now` stays, even where the wheel had already been further.
    #[must_use]
    pub fn advance(&mut self, now: Timestamp) -> Vec<(Timestamp, T)> {
        let mut taken = Vec::new();
        // All of it is earlier than anything in the slots.
        while let Some(entry) = self.behind.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let ((due, _), item) = entry.remove_entry();
            taken.push((due, item));
        }
        while let Some((level, slot, start)) = self.first_slot() {
            if start > now.as_millis() {
                break;
            }
            // No occupied slot starts before this one, so that no item is passed over.
            self.position = start;
            let items = self.take_slot(level, slot);
            if level == 0 {
                taken.extend(items);
            } else {
                for (due, item) in items {
                    self.place(due, item);
                }
            }
        }
        // Every item that is left is in a slot that starts later, so the level of each stays right.
        self.position = self.position.max(now.as_millis());
        self.len -= taken.len();
        taken
    }

    /// When to call [`Wheel::advance`] next: never later than the earliest item is due, and exact
    /// once that is at most 64 ms away. An advance at this instant gets at least closer to the item.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        match self.behind.first_key_value() {
            Some(((due, _), _)) => Some(*due),
            None => self.first_slot().map(|(_, _, start)| Timestamp::from_millis(start)),
        }
    }

    /// How many items there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Drops every item for which `keep` says no.
    pub fn retain(&mut self, mut keep: impl FnMut(Timestamp, &T) -> bool) {
        self.behind.retain(|(due, _), item| keep(*due, item));
        let mut len = self.behind.len();
        for level in &mut self.levels {
            for (slot, items) in level.slots.iter_mut().enumerate() {
                items.retain(|(due, item)| keep(*due, item));
                if items.is_empty() {
                    level.occupied &= !(1 << slot);
                    *items = Vec::new();
                }
                len += items.len();
            }
        }
        self.len = len;
    }

    /// Drops everything; the position stays.
    pub fn clear(&mut self) {
        *self = Self::new(Timestamp::from_millis(self.position));
    }

    /// Puts an item that is not behind the position into its slot.
    fn place(&mut self, due: Timestamp, item: T) {
        let at = due.as_millis();
        // The lowest bit is set so that an item due right now belongs to level 0 as well.
        let level = ((at ^ self.position) | 1).ilog2() / LEVEL_BITS;
        let slot = slot_of(at, level);
        let level = &mut self.levels[level as usize];
        level.occupied |= 1 << slot;
        level.slots[slot].push((due, item));
    }

    fn take_slot(&mut self, level: u32, slot: u32) -> Vec<(Timestamp, T)> {
        let level = &mut self.levels[level as usize];
        level.occupied &= !(1 << slot);
        std::mem::take(&mut level.slots[slot as usize])
    }

    /// The occupied slot that starts first, as level, slot and the instant at which it starts.
    ///
    /// The lowest level that holds anything has it: what is further up differs from the position in a higher bit.
    fn first_slot(&self) -> Option<(u32, u32, u64)> {
        (0u32..).zip(&self.levels).find_map(|(level, slots)| {
            let slot = slots.first_occupied()?;
            let shift = level * LEVEL_BITS;
            // Above the top level there is no bit left to keep.
            let above = self.position.checked_shr(shift + LEVEL_BITS).unwrap_or(0);
            let above = above.checked_shl(shift + LEVEL_BITS).unwrap_or(0);
            Some((level, slot, above | u64::from(slot) << shift))
        })
    }
}

/// The six bits of `at` that `level` tells apart.
fn slot_of(at: u64, level: u32) -> usize {
    // The mask leaves a number below 64.
    ((at >> (level * LEVEL_BITS)) & (SLOTS as u64 - 1)) as usize
}

impl<T> fmt::Debug for Wheel<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wheel")
            .field("position", &self.position)
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
