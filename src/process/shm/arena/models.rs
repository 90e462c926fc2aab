//! Models of the words that the program shares with a worker, checked by loom: a block never belongs to both
//! sides at once.

use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;

use super::Shard;
use super::blocks::ShardWords;
use super::worker::WorkerArenaState;

/// A shard of which only one block is used: no other block of its size is free.
#[derive(Default)]
struct ModelShard {
    words: ShardWords,
    /// The content of the block. loom tracks which thread reads and writes it.
    block: UnsafeCell<u64>,
    /// What the worker has reported so far; stands for the state of a slot.
    told: AtomicU64,
}

/// Size in bytes of the largest blocks, of which a shard has seven.
const LARGE: usize = 1 << 30;

impl ModelShard {
    fn write(&self, value: u64) {
        // SAFETY: loom checks that no other thread accesses the block.
        self.block.with_mut(|place| unsafe { *place = value });
    }

    fn read(&self) -> u64 {
        // SAFETY: loom checks that no other thread writes.
        self.block.with(|place| unsafe { *place })
    }

    /// Writes the value into the block and reports it, as a worker does, if the block belongs to the worker.
    fn put(&self, state: &mut WorkerArenaState, value: u64) {
        state.take_back(&self.words);
        if let Some((bit, _)) = state.take(LARGE) {
            self.write(value);
            state.hand_over(1 << bit);
            // ORDERING: Release; pairs with `arrive`.
            self.told.store(value, Ordering::Release);
        }
    }

    /// Leases and reads the block, as the program does, if the worker has reported that value. Returns
    /// whether it has.
    fn arrive(&self, store: &mut Shard, block: u64, value: u64) -> bool {
        // ORDERING: Acquire; pairs with `put`.
        let is_there = self.told.load(Ordering::Acquire) == value;
        if is_there {
            assert!(store.lend(block), "it was on loan");
            assert_eq!(self.read(), value);
        }
        is_there
    }
}

/// The state of a worker in which one of the largest blocks is free, and the bit of that block.
fn state(words: &ShardWords) -> (WorkerArenaState, u64) {
    let mut state = WorkerArenaState::of(words);
    let all = std::iter::from_fn(|| state.take(LARGE));
    let Some((last, _)) = all.take(6).last() else {
        panic!("it takes six of seven")
    };
    (state, 1 << (last + 1))
}

/// A worker reuses a block that the program reads and gives back.
#[test]
fn a_block_is_one_sides_at_a_time() {
    loom::model(|| {
        let shared = Arc::new(ModelShard::default());
        let (mut state, block) = state(&shared.words);
        let mut store = Shard::default();
        let worker = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || (1..=3).for_each(|value| shared.put(&mut state, value)))
        };
        for value in 1..=3 {
            if shared.arrive(&mut store, block, value) {
                store.give_back(block, Some(&shared.words));
            }
        }
        worker.join().unwrap();
    });
}

/// A worker has died while the program still reads its result. Its successor starts, and uses the block,
/// while the program gives it back.
#[test]
fn a_successor_meets_what_the_program_gives_back() {
    loom::model(|| {
        let shared = Arc::new(ModelShard::default());
        let (mut predecessor, block) = state(&shared.words);
        let mut store = Shard::default();
        shared.put(&mut predecessor, 1);
        assert!(shared.arrive(&mut store, block, 1));
        assert_eq!(store.worker_died(&shared.words), block);
        let successor = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let (mut state, _) = state(&shared.words);
                (2..=3).for_each(|value| shared.put(&mut state, value));
            })
        };
        assert_eq!(shared.read(), 1);
        store.give_back(block, Some(&shared.words));
        shared.arrive(&mut store, block, 2);
        successor.join().unwrap();
    });
}
