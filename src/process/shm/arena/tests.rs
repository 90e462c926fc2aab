use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::*;
use crate::process::shm::arena::worker::{ResultPlacement, WorkerArena};

const LIMIT: u64 = 1 << 20;

/// An arena for two workers, and the side of the second worker.
fn arena() -> (Arc<Arena>, Arc<WorkerArena>) {
    let arena = Arena::new(2, LIMIT).unwrap();
    let worker_arena = worker_arena(&arena);
    (arena, worker_arena)
}

fn worker_arena(arena: &Arc<Arena>) -> Arc<WorkerArena> {
    WorkerArena::map(arena.descriptor().unwrap(), 2, 1).unwrap()
}

fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at * 7 / 3) as u8).collect()
}

/// Stores a result, and hands it over, as a worker does.
fn put_result(worker_arena: &Arc<WorkerArena>, bytes: &[u8]) -> Option<BlockRef> {
    result_placement(worker_arena)
        .store(bytes)
        .map(Lease::hand_over)
}

fn result_placement(worker_arena: &Arc<WorkerArena>) -> ResultPlacement<'_> {
    ResultPlacement {
        worker_arena: Some(worker_arena),
    }
}

fn arrive(arena: &Arc<Arena>, location: BlockRef) -> Result<Lease, &'static str> {
    arena.arrived(&location.to_bytes(), 1)
}

#[test]
fn an_argument_goes_and_its_result_comes() {
    let (arena, worker_arena) = arena();
    let argument = arena.store(&pattern(100_000)).unwrap();
    let there = worker_arena.argument(argument.location()).unwrap();
    assert_eq!(there.read::<u8>().unwrap(), pattern(100_000));
    drop(there); // which leaves the block to the program
    let location = put_result(&worker_arena, &pattern(90_000)).unwrap();
    assert_eq!(location.block.store(), 1);
    let result = arrive(&arena, location).unwrap();
    assert_eq!(result.read::<u8>().unwrap(), pattern(90_000));
    assert_eq!(argument.read::<u8>().unwrap(), pattern(100_000));
}

#[test]
fn a_result_tells_whether_its_memory_was_there() {
    let (arena, worker_arena) = arena();
    let first = put_result(&worker_arena, &pattern(5000)).unwrap();
    assert_eq!(first.resident, 0);
    drop(arrive(&arena, first).unwrap());
    let second = put_result(&worker_arena, &pattern(5000)).unwrap();
    assert_eq!((second.block, second.resident), (first.block, 5000));
}

#[test]
fn few_bytes_travel_otherwise_and_so_do_too_many() {
    let (arena, worker_arena) = arena();
    assert!(arena.store(&[0; EAGER_LIMIT]).is_none());
    assert!(put_result(&worker_arena, &[0; EAGER_LIMIT]).is_none());
    assert!(arena.take((1 << 30) + 1).is_none());
}

#[test]
fn each_block_is_one_argument_s_until_that_is_dropped() {
    let (arena, _) = arena();
    let leases: Vec<_> = std::iter::from_fn(|| arena.store(&pattern(5000))).collect();
    let blocks: BTreeSet<_> = leases.iter().map(|lease| lease.block().0).collect();
    assert_eq!((leases.len(), blocks.len()), (14, 14));
    drop(leases);
    let again = arena.store(&pattern(5000)).unwrap();
    assert!(blocks.contains(&again.block().0));
}

#[test]
fn a_worker_s_block_is_its_own_again_once_the_result_was_dropped() {
    let (arena, worker_arena) = arena();
    let locations: Vec<_> =
        std::iter::from_fn(|| put_result(&worker_arena, &pattern(5000))).collect();
    assert_eq!(locations.len(), 14);
    let results: Vec<_> = locations
        .iter()
        .map(|l| arrive(&arena, *l).unwrap())
        .collect();
    assert!(put_result(&worker_arena, &pattern(5000)).is_none());
    assert_eq!(results[13].read::<u8>().unwrap(), pattern(5000));
    drop(results);
    assert!(put_result(&worker_arena, &pattern(5000)).is_some());
}

#[test]
fn a_result_that_was_not_told_gives_its_block_and_memory_back() {
    let (arena, worker_arena) = arena();
    for _ in 0..100 {
        let lease = result_placement(&worker_arena)
            .store(&pattern(5000))
            .unwrap();
        let block = lease.block();
        assert!(has_memory(&arena, block));
        drop(lease);
        assert!(!has_memory(&arena, block));
    }
}

#[test]
fn a_successor_has_the_blocks_of_the_dead_but_those_on_loan() {
    let (arena, worker_arena) = arena();
    let told = arrive(&arena, put_result(&worker_arena, &pattern(5000)).unwrap()).unwrap();
    // The program is never told of these.
    while put_result(&worker_arena, &[1; 5000]).is_some() {}
    drop(worker_arena);
    arena.worker_died(1);
    let next = self::worker_arena(&arena);
    let locations: Vec<_> = std::iter::from_fn(|| put_result(&next, &[2; 5000])).collect();
    assert_eq!(locations.len(), 13);
    assert_eq!(told.read::<u8>().unwrap(), pattern(5000));
    drop(told);
    assert!(put_result(&next, &[3; 5000]).is_some());
}

// ---- lies ----------------------------------------------------------------------------------

#[test]
fn results_are_only_where_they_may_be() {
    let (arena, worker_arena) = arena();
    let argument = arena.store(&pattern(5000)).unwrap();
    let own = put_result(&worker_arena, &pattern(5000)).unwrap();
    let refused = |location: BlockRef| arena.arrived(&location.to_bytes(), 1).is_err();
    let foreign = BlockRef {
        block: Block::of_bit(0, 3),
        ..own
    };
    assert!(refused(foreign), "another worker's");
    assert!(refused(argument.location()), "the program's own");
    let long = |block, length| BlockRef {
        block,
        length,
        resident: u64::MAX,
    };
    let size = own.block.size() as u64;
    assert!(refused(long(own.block, size + 1)), "longer than its block");
    assert!(
        refused(long(Block::of_bit(1, 62), LIMIT + 1)),
        "over the limit"
    );
    let first = arrive(&arena, own).unwrap();
    assert!(refused(own), "told of twice");
    assert_eq!(first.read::<u8>().unwrap(), pattern(5000));
}

#[test]
fn what_was_never_written_is_not_read() {
    let (arena, _) = arena();
    let location = BlockRef {
        block: Block::of_bit(1, 62),
        length: LIMIT,
        resident: 0,
    };
    let lease = arrive(&arena, location).unwrap();
    assert!(lease.read::<u8>().is_err());
}

fn location() -> impl Strategy<Value = Vec<u8>> {
    let any_bytes = proptest::collection::vec(any::<u8>(), 0..30);
    let numbers = (0..300_u32, 0..(2 * LIMIT), any::<u64>());
    let likely = numbers.prop_map(|(block, length, resident)| {
        let block = Block(block);
        BlockRef {
            block,
            length,
            resident,
        }
        .to_bytes()
        .to_vec()
    });
    prop_oneof![any_bytes, likely]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_workers_say_their_blocks_are_lent_once(said in proptest::collection::vec(location(), 1..20)) {
        let (arena, worker_arena) = arena();
        drop(worker_arena);
        let mut lent = BTreeSet::new();
        let mut leases = Vec::new();
        for location in &said {
            if let Ok(lease) = arena.arrived(location, 1) {
                prop_assert!(lent.insert(lease.block().0));
                prop_assert!(lease.len() as u64 <= LIMIT && lease.len() <= lease.block().size());
                let _ = lease.read::<u8>();
                leases.push(lease);
            }
        }
        arena.worker_died(1);
        drop(leases);
        cool(&arena);
        prop_assert!(put_result(&self::worker_arena(&arena), &pattern(5000)).is_some());
    }
}

// ---- memory --------------------------------------------------------------------------------

/// Gives memory back as if it had been idle for a while.
fn cool(arena: &Arena) {
    let idle = arena.take_warm(&mut arena.lock());
    arena.purge(&idle);
}

fn has_memory(arena: &Arena, block: Block) -> bool {
    arena.blocks.has(block, 1)
}

#[test]
fn memory_goes_back_but_what_is_in_use() {
    let (arena, worker_arena) = arena();
    let (kept, idle) = (arena.store(&pattern(5000)), arena.store(&pattern(5000)));
    let (kept, idle) = (kept.unwrap(), idle.unwrap().block());
    let held = arrive(&arena, put_result(&worker_arena, &pattern(5000)).unwrap()).unwrap();
    let [told, under_way] = [(); 2].map(|()| put_result(&worker_arena, &pattern(5000)).unwrap());
    let told = arrive(&arena, told).unwrap().block();
    cool(&arena);
    assert!(!has_memory(&arena, idle) && has_memory(&arena, told));
    assert!(worker_arena.is_warm());
    worker_arena.purge();
    assert!(!has_memory(&arena, told));
    let under_way = arrive(&arena, under_way).unwrap();
    for lease in [kept, held, under_way] {
        assert!(has_memory(&arena, lease.block()));
        assert_eq!(lease.read::<u8>().unwrap(), pattern(5000));
    }
    // The worker knows that, and allocates the memory anew.
    let locations = std::iter::from_fn(|| put_result(&worker_arena, &pattern(5000)));
    let results: Vec<_> = locations.map(|l| arrive(&arena, l).unwrap()).collect();
    assert_eq!(results.len(), 14);
    for result in results {
        assert_eq!(result.read::<u8>().unwrap(), pattern(5000));
    }
    worker_arena.purge();
    assert!(!worker_arena.is_warm());
}

#[test]
fn what_a_dead_worker_had_is_given_back_once_it_was_read() {
    let (arena, worker_arena) = arena();
    let read = arrive(&arena, put_result(&worker_arena, &pattern(5000)).unwrap()).unwrap();
    let never_told = put_result(&worker_arena, &pattern(5000)).unwrap().block;
    drop(worker_arena);
    arena.worker_died(1);
    assert!(!has_memory(&arena, never_told) && has_memory(&arena, read.block()));
    assert_eq!(read.read::<u8>().unwrap(), pattern(5000));
    let block = read.block();
    drop(read);
    assert!(!has_memory(&arena, block));
}

#[test]
fn memory_is_looked_after_from_its_first_use_until_it_is_gone() {
    let (arena, _) = arena();
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&calls);
    arena.when_warmed(move || {
        counter.fetch_add(1, Ordering::Relaxed);
    });
    assert!(arena.reclaim().is_never());
    let begun = Instant::now();
    let block = arena.store(&pattern(5000)).unwrap().block();
    drop(arena.store(&pattern(5000)));
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    let due = arena.reclaim().moment().unwrap();
    assert!(due >= begun + IDLE && has_memory(&arena, block));
    std::thread::sleep(due - Instant::now());
    assert!(arena.reclaim().is_never());
    assert!(!has_memory(&arena, block));
    drop(arena.store(&pattern(5000)));
    assert_eq!(calls.load(Ordering::Relaxed), 2);
}

#[test]
fn a_result_outlives_the_pool_and_the_descriptor_does_not_outlive_it() {
    let (arena, worker_arena) = arena();
    let idle = arena.store(&pattern(5000)).unwrap().block();
    let result = arrive(&arena, put_result(&worker_arena, &pattern(5000)).unwrap()).unwrap();
    drop(worker_arena);
    arena.close();
    assert!(!has_memory(&arena, idle));
    assert_eq!(result.read::<u8>().unwrap(), pattern(5000));
    assert!(arena.descriptor().is_ok());
    drop(result);
    assert!(arena.descriptor().is_err());
}
