//! The table of fates in README.md, cell by cell, and the trials that hold each.

use std::collections::BTreeSet;

use libtest_mimic::Trial;

use super::crash;
use crate::support::trial;

/// A row, known by the words of its first cell.
struct Row {
    /// What happens.
    event: &'static str,
    /// What becomes of the task that it happens to.
    task: Names,
    /// What becomes of those in the queue.
    queued: Names,
    /// What becomes of those submitted later.
    later: Names,
    /// What becomes of the pool.
    pool: Names,
}

/// Trials of this suite. `pools::name` stands for `threads::name` and `processes::name`, `crashes`
/// for the crash matrix without its panics; `bad_start::name` is one of `bad_start.rs`.
/// None: the cell says nothing.
type Names = &'static [&'static str];

/// Tasks that end their worker.
const DEATHS: Names = &[
    "crashes",
    "processes::an_exit_with_code_zero_is_a_death",
    "processes::one_of_a_hundred_tasks_kills_its_worker",
    "processes::the_dead_worker_is_described",
    "processes::a_lost_task_is_tried_again",
    "processes::a_task_is_not_tried_for_ever",
    "processes::a_worker_is_killed_between_two_items_of_a_chunk",
];

/// Starts that fail.
const STARTS: Names = &[
    "processes::workers_that_cannot_be_started_break_the_pool",
    "processes::another_program_in_place_of_this_one_breaks_the_pool",
    "processes::a_worker_that_is_never_ready_breaks_the_pool",
    "program::a_program_may_have_no_more_processes",
    "program::a_program_has_no_memory_for_threads",
    "program::a_program_has_no_descriptors_left",
    "program::workers_have_no_memory_to_start",
    "bad_start::a_worker_exits_before_hello",
    "bad_start::a_worker_crashes_before_hello",
    "bad_start::a_worker_speaks_another_language",
    "bad_start::a_worker_hangs_before_hello",
];

/// Initializers that fail, and states that cannot be made.
const INITIALIZERS: Names = &[
    "pools::a_panicking_initializer_breaks_the_pool",
    "pools::an_initializer_that_fails_breaks_the_pool_in_its_words",
    "pools::a_state_that_cannot_be_made_breaks_the_pool_in_its_words",
    "processes::a_worker_that_dies_while_it_makes_its_state_breaks_the_pool",
    "processes::an_initializer_that_exits_breaks_the_pool",
    "processes::an_initializer_that_crashes_breaks_the_pool",
    "program::workers_have_no_memory_for_their_initializer",
];

/// Workers that send what they should not.
const GARBAGE: Names = &[
    "processes::a_worker_sends_garbage",
    "processes::a_worker_sends_garbage_and_stays",
    "processes::a_worker_closes_its_link",
    "processes::a_worker_sends_half_a_frame_and_goes_on",
    "processes::a_worker_sends_byte_by_byte_beyond_its_limit",
    "processes::a_worker_speaks_of_places_that_are_not_its_own",
];

/// Those of them that are found out; others wait behind the task.
const LIES: Names = &[
    "processes::a_worker_sends_half_a_frame_and_ends",
    "processes::a_worker_sends_half_a_frame_and_stays",
    "processes::a_worker_announces_more_than_it_may_send",
    "processes::a_worker_announces_more_than_it_sends",
    "processes::a_worker_answers_what_nobody_asked",
];

/// Stray writes of a task into what its worker shares.
const WILD: Names = &[
    "processes::a_stray_write::AllRandom::Crash",
    "processes::a_stray_write::AllRandom::Return",
    "processes::a_stray_write::StatesGarbage::Crash",
    "processes::a_stray_write::OwnRandom::Return",
    "processes::items_of_maps_survive_a_stray_write",
    "processes::random_stray_writes_hurt_nobody_for_long",
];

/// In the order of README.md.
const TABLE: &[Row] = &[
    Row {
        event: "T panics",
        task: &[
            "pools::a_panic_is_told_with_message_place_and_task",
            "pools::a_backtrace_is_told_where_it_is_asked_for",
            "processes::panic_in_run",
        ],
        queued: &["pools::a_panic_leaves_the_queue_alone"],
        later: &["pools::a_panic_leaves_the_worker_at_work"],
        pool: &["pools::a_panic_leaves_the_worker_at_work"],
    },
    Row {
        event: "T's argument cannot be encoded",
        task: &[
            "processes::an_argument_cannot_be_encoded",
            "processes::nothing_starts_for_an_argument_that_cannot_be_encoded",
        ],
        queued: &["processes::an_argument_cannot_be_encoded"],
        later: &["processes::an_argument_cannot_be_encoded"],
        pool: &[],
    },
    Row {
        event: "T's argument cannot be decoded",
        task: &["processes::an_argument_cannot_be_decoded"],
        queued: &["processes::an_argument_cannot_be_decoded"],
        later: &["processes::an_argument_cannot_be_decoded"],
        pool: &["processes::an_argument_cannot_be_decoded"],
    },
    Row {
        event: "T's result cannot be encoded",
        task: &["processes::a_result_cannot_be_encoded"],
        queued: &["processes::a_result_cannot_be_encoded"],
        later: &["processes::a_result_cannot_be_encoded"],
        pool: &["processes::a_result_cannot_be_encoded"],
    },
    Row {
        event: "T's result cannot be decoded in the program",
        task: &["processes::a_result_cannot_be_decoded"],
        queued: &["processes::a_result_cannot_be_decoded"],
        later: &["processes::a_result_cannot_be_decoded"],
        pool: &["processes::a_result_cannot_be_decoded"],
    },
    Row {
        event: "T's argument or result is over the limit",
        task: &[
            "processes::an_argument_over_the_limit_is_refused",
            "processes::a_result_over_the_limit_is_refused",
        ],
        queued: &["processes::a_task_over_the_limit_leaves_the_queue_alone"],
        later: &["processes::a_task_over_the_limit_leaves_the_queue_alone"],
        pool: &[],
    },
    Row {
        event: "`Serialize` of the argument panics in `submit`, or `Deserialize` of the result in the program",
        task: &[
            "processes::panic_in_encode_argument",
            "processes::panic_in_decode_result",
        ],
        queued: &[
            "processes::panic_in_encode_argument",
            "processes::panic_in_decode_result",
        ],
        later: &[
            "processes::panic_in_encode_argument",
            "processes::panic_in_decode_result",
        ],
        pool: &[],
    },
    Row {
        event: "T exits, aborts, segfaults, is OOM-killed or `kill -9`ed (also in decoding, encoding, `Drop`)",
        task: DEATHS,
        queued: &["crashes", "processes::tasks_behind_a_dead_one_run"],
        later: &["crashes"],
        pool: &["crashes"],
    },
    Row {
        event: "an idle worker is killed",
        task: &[],
        queued: &["processes::an_idle_worker_is_killed_unnoticed"],
        later: &["processes::an_idle_worker_is_killed"],
        pool: &["processes::an_idle_worker_is_killed"],
    },
    Row {
        event: "all workers are killed at once, again and again",
        task: &["processes::all_busy_workers_are_killed_again_and_again"],
        queued: &["processes::all_busy_workers_are_killed_again_and_again"],
        later: &[
            "processes::all_busy_workers_are_killed_again_and_again",
            "processes::all_idle_workers_are_killed_again_and_again",
        ],
        pool: &[
            "processes::all_busy_workers_are_killed_again_and_again",
            "processes::all_idle_workers_are_killed_again_and_again",
        ],
    },
    Row {
        event: "a worker sends garbage",
        task: LIES,
        queued: LIES,
        later: GARBAGE,
        pool: LIES,
    },
    Row {
        event: "T writes past the end of a buffer, or through a wild pointer, then crashes or returns",
        task: &[
            "processes::an_overrun_ends_its_own_task",
            "processes::an_overrun_of_an_argument_ends_its_own_task",
            "processes::a_stray_write::AllRandom::Crash",
            "processes::a_stray_write::AllRandom::Return",
        ],
        queued: &[
            "processes::a_stray_write_into_control_words_costs_nobody_else",
            "processes::what_a_stray_write_has_hit_names_the_suspect",
            "processes::a_stray_write_of_a_task_with_a_time_limit::AllRandom",
            "processes::random_stray_writes_hurt_nobody_for_long",
        ],
        later: WILD,
        pool: WILD,
    },
    Row {
        event: "workers end again and again before they have begun anything",
        task: &[],
        queued: &[
            "processes::workers_that_end_before_they_begin_anything_break_the_pool",
            "processes::workers_that_begin_a_task_each_break_nothing",
        ],
        later: &["processes::workers_that_begin_a_task_each_break_nothing"],
        pool: &["processes::workers_that_end_before_they_begin_anything_break_the_pool"],
    },
    Row {
        event: "T forks, and both copies return",
        task: &[
            "processes::a_task_forks_and_both_copies_return",
            "processes::a_task_forks_and_the_copy_stays",
        ],
        queued: &["processes::a_task_forks_and_both_copies_return"],
        later: &["processes::a_task_forks_and_both_copies_return"],
        pool: &[],
    },
    Row {
        event: "the initializer, or the function that makes the state, fails or panics, or its worker dies in it",
        task: &[],
        queued: INITIALIZERS,
        later: INITIALIZERS,
        pool: INITIALIZERS,
    },
    Row {
        event: "workers cannot be started (no memory, another program in place of this one, not ready within `start_timeout`)",
        task: &[],
        queued: STARTS,
        later: STARTS,
        pool: &[
            "processes::three_failed_starts_break_the_pool",
            "processes::two_failed_starts_do_not_break_the_pool",
            "processes::failed_starts_beside_a_worker_that_is_ready_break_nothing",
            "processes::starts_that_are_killed_from_outside_are_tried_again",
        ],
    },
    Row {
        event: "`cancel`",
        task: &[
            "pools::a_cancelled_task_leaves_the_queue_alone",
            "pools::cancel_when_pending",
            "pools::cancel_when_running",
        ],
        queued: &["pools::a_cancelled_task_leaves_the_queue_alone"],
        later: &["pools::cancel_meets_start"],
        pool: &[],
    },
    Row {
        event: "`kill`",
        task: &[
            "processes::a_running_task_is_killed_and_the_queue_runs",
            "processes::nothing_of_a_killed_task_runs_after_its_result",
            "processes::a_task_is_killed_at_any_moment",
            "pools::kill_when_pending",
        ],
        queued: &[
            "processes::a_running_task_is_killed_and_the_queue_runs",
            "processes::a_task_is_killed_at_any_moment",
            "processes::kill_never_hits_the_next_task",
        ],
        later: &["pools::kill_meets_finish"],
        pool: &["processes::a_running_task_is_killed_and_the_queue_runs"],
    },
    Row {
        event: "T passes its `timeout`",
        task: &[
            "pools::a_time_limit_ends_the_wait",
            "processes::a_late_process_is_killed_and_replaced",
            "processes::a_late_process_is_killed_in_time",
            "processes::a_late_process_that_ignores_signals_is_killed",
            "processes::a_task_that_blocks_all_signals_is_killed_at_its_limit",
        ],
        queued: &["processes::a_late_process_is_killed_and_replaced"],
        later: &["pools::a_time_limit_ends_the_wait"],
        pool: &["processes::a_late_process_is_killed_and_replaced"],
    },
    Row {
        event: "`kill`, or the `timeout`, of a T with a `grace`",
        task: &[
            "processes::a_late_task_cleans_up_in_its_grace",
            "processes::a_killed_task_cleans_up_in_its_grace",
            "processes::a_worker_that_obeys_leaves_by_itself",
            "processes::what_ignores_its_grace_is_killed_at_its_end",
            "processes::sigterm_comes_after_the_request",
            "processes::sigterm_ends_what_does_not_handle_it",
            "processes::a_death_within_the_grace_is_no_other_fate",
            "threads::a_thread_with_a_grace_is_asked_as_without",
        ],
        queued: &["processes::items_with_a_grace_are_asked_one_by_one"],
        later: &["processes::a_late_task_cleans_up_in_its_grace"],
        pool: &["processes::a_killed_task_cleans_up_in_its_grace"],
    },
    Row {
        event: "T fails in a way that its `Retry` names",
        task: &[
            "pools::an_err_is_tried_again",
            "pools::a_panic_is_tried_again",
            "pools::a_time_limit_is_tried_again",
            "pools::the_last_outcome_counts",
            "pools::attempts_are_apart_by_the_pause",
            "processes::a_death_is_tried_again_after_a_pause",
        ],
        queued: &["pools::a_task_that_pauses_leaves_its_worker_alone"],
        later: &["pools::a_task_that_pauses_can_be_cancelled"],
        pool: &[
            "pools::an_err_is_tried_again",
            "processes::a_death_is_tried_again_after_a_pause",
        ],
    },
    Row {
        event: "T passes `memory_limit`",
        task: &["processes::memory_beyond_the_limit_ends_the_task"],
        queued: &["processes::memory_beyond_the_limit_ends_the_task"],
        later: &["processes::memory_beyond_the_limit_ends_the_task"],
        pool: &["processes::memory_beyond_the_limit_ends_the_task"],
    },
    Row {
        event: "a worker reaches `max_tasks_per_child`",
        task: &["processes::a_worker_is_replaced_after_so_many_tasks"],
        queued: &["processes::a_worker_is_replaced_within_a_chunk"],
        later: &["processes::a_worker_is_replaced_after_so_many_tasks"],
        pool: &["processes::a_worker_is_replaced_before_it_leaves"],
    },
    Row {
        event: "a worker that is to leave hangs in its exit, or is stopped",
        task: &["processes::a_recycled_worker_that_does_not_leave_is_killed"],
        queued: &["processes::recycling_goes_on_while_a_worker_does_not_leave"],
        later: &["processes::recycling_goes_on_while_a_worker_does_not_leave"],
        pool: &[
            "processes::workers_that_do_not_leave_are_killed",
            "processes::a_recycled_worker_that_does_not_leave_is_killed",
        ],
    },
    Row {
        event: "`terminate_workers`, `kill_workers`",
        task: &[
            "processes::terminate_ends_running_and_queued",
            "processes::terminate_kills_what_does_not_listen",
            "processes::kill_ends_running_and_queued",
        ],
        queued: &[
            "processes::terminate_ends_running_and_queued",
            "processes::kill_ends_running_and_queued",
        ],
        later: &[
            "processes::terminate_ends_running_and_queued",
            "processes::kill_ends_running_and_queued",
        ],
        pool: &[
            "processes::terminate_ends_running_and_queued",
            "processes::kill_ends_running_and_queued",
            "processes::kill_ends_what_a_task_has_started",
        ],
    },
    Row {
        event: "`shutdown(wait)`, or drop",
        task: &[
            "pools::shutdown_wait_runs_what_is_queued",
            "pools::drop_runs_what_is_queued",
        ],
        queued: &[
            "pools::shutdown_wait_runs_what_is_queued",
            "pools::drop_runs_what_is_queued",
        ],
        later: &["pools::submit_after_shutdown_is_refused"],
        pool: &[
            "pools::shutdown_wait_runs_what_is_queued",
            "pools::drop_runs_what_is_queued",
        ],
    },
    Row {
        event: "`shutdown(wait, cancel_futures)`, or drop while panicking",
        task: &[
            "pools::shutdown_wait_cancel_runs_what_has_begun_alone",
            "pools::drop_while_panicking_cancels_what_is_queued",
        ],
        queued: &[
            "pools::shutdown_wait_cancel_runs_what_has_begun_alone",
            "pools::drop_while_panicking_cancels_what_is_queued",
        ],
        later: &["pools::shutdown_wait_cancel_runs_what_has_begun_alone"],
        pool: &["pools::shutdown_wait_cancel_runs_what_has_begun_alone"],
    },
    Row {
        event: "`shutdown(no_wait)`",
        task: &["pools::shutdown_no_wait_returns_while_a_task_runs"],
        queued: &["pools::shutdown_no_wait_returns_while_a_task_runs"],
        later: &["pools::shutdown_no_wait_returns_while_a_task_runs"],
        pool: &["pools::shutdown_no_wait_returns_while_a_task_runs"],
    },
    Row {
        event: "T waits without limit, on a thread of a pool, for a queued task that no thread is free to run, all of them waiting in the same way, or for the end of a pool",
        task: &[
            "threads::a_task_that_waits_for_its_own_queue_is_a_deadlock",
            "threads::pools_that_wait_for_each_other_are_a_deadlock",
            "threads::a_map_in_a_full_pool_is_a_deadlock",
            "threads::waits_for_many_in_a_full_pool_are_deadlocks",
            "threads::a_shutdown_that_waits_for_who_waits_for_it_is_a_deadlock",
        ],
        queued: &[
            "threads::a_task_that_waits_for_its_own_queue_is_a_deadlock",
            "threads::a_wait_that_ends_is_no_deadlock",
        ],
        later: &["threads::a_task_that_waits_for_its_own_queue_is_a_deadlock"],
        pool: &[],
    },
    Row {
        event: "a future is dropped",
        task: &["pools::a_dropped_future_leaves_its_task_alone"],
        queued: &["pools::a_dropped_future_leaves_its_task_alone"],
        later: &["pools::a_dropped_future_leaves_its_task_alone"],
        pool: &[],
    },
    Row {
        event: "a `Map` is dropped",
        task: &["pools::dropping_a_map_cancels_what_has_not_started"],
        queued: &[
            "pools::dropping_a_map_cancels_what_has_not_started",
            "pools::dropping_a_map_after_quick_items_cancels_what_has_not_started",
            "pools::dropping_a_map_unordered_cancels_what_has_not_started",
        ],
        later: &["pools::dropping_a_map_cancels_what_has_not_started"],
        pool: &[],
    },
    Row {
        event: "Ctrl-C at the terminal",
        task: &[
            "processes::workers_do_not_react_to_an_interrupt",
            "processes::workers_have_their_own_process_group",
        ],
        queued: &[],
        later: &[],
        pool: &["program::ctrl_c_ends_a_program_and_its_workers_in_silence"],
    },
    Row {
        event: "Ctrl-Z at the terminal",
        task: &["program::ctrl_z_stops_a_program_and_not_its_workers"],
        queued: &[],
        later: &[],
        pool: &["program::ctrl_z_stops_a_program_and_not_its_workers"],
    },
    Row {
        event: "the program is `kill -9`ed",
        task: &[
            "program::a_program_is_killed_with_a_busy_pool",
            "program::a_program_is_killed_with_nested_pools",
        ],
        queued: &["program::a_program_is_killed_with_a_busy_pool"],
        later: &[],
        pool: &[
            "program::a_program_is_killed_with_a_busy_pool",
            "program::a_program_is_killed_with_nested_pools",
        ],
    },
    Row {
        event: "the system refuses the program's signals (it has laid down rights that its workers have, or a filter of system calls)",
        task: &[
            "program::a_program_without_rights_ends_its_workers",
            "program::a_program_that_may_send_no_signals_ends_its_workers",
        ],
        queued: &["program::a_program_without_rights_ends_its_workers"],
        later: &["program::a_program_without_rights_ends_its_workers"],
        pool: &["program::a_start_that_no_signal_ends_is_given_up"],
    },
    Row {
        event: "`main` returns while a forgotten or `no_wait` pool has work",
        task: &[
            "program::a_program_leaks_a_busy_pool",
            "program::a_program_returns_while_a_pool_winds_down",
        ],
        queued: &[
            "program::a_program_leaks_a_busy_pool",
            "program::a_program_returns_while_a_pool_winds_down",
        ],
        later: &[],
        pool: &[
            "program::a_program_leaks_a_busy_pool",
            "program::a_program_returns_while_a_pool_winds_down",
            "program::a_program_leaks_a_running_process",
        ],
    },
    Row {
        event: "the program runs other children meanwhile",
        task: &["processes::no_descriptor_reaches_a_child_of_the_program"],
        queued: &["processes::no_descriptor_reaches_a_child_of_the_program"],
        later: &["processes::no_descriptor_reaches_a_child_of_the_program"],
        pool: &["processes::no_descriptor_reaches_a_child_of_the_program"],
    },
    Row {
        event: "the program forks without exec",
        task: &["program::a_program_forks_without_exec"],
        queued: &["program::a_program_forks_without_exec"],
        later: &["program::a_program_forks_without_exec"],
        pool: &[
            "program::a_program_forks_without_exec",
            "program::a_program_forks_and_its_copy_waits_for_nothing",
            "processes::a_copy_of_the_program_kills_no_worker",
        ],
    },
    Row {
        event: "T panics in a program built with `panic = \"abort\"`",
        task: &[
            "program::a_panic_that_aborts_costs_a_worker",
            "program::a_panic_that_aborts_ends_a_program_of_threads",
        ],
        queued: &[],
        later: &[],
        pool: &[],
    },
];

/// Checks the table, with the names of all trials of the suite.
pub fn trials(names: BTreeSet<String>) -> Vec<Trial> {
    vec![
        trial(
            "fates::every_row_of_the_readme_is_here".into(),
            every_row_is_here,
        ),
        trial("fates::every_cell_has_its_trials".into(), move || {
            every_cell_has_its_trials(&names);
        }),
    ]
}

fn every_row_is_here() {
    let here: Vec<_> = TABLE.iter().map(|row| row.event).collect();
    let told: Vec<_> = told().iter().map(|cells| cells[0].clone()).collect();
    assert_eq!(here, told);
}

fn every_cell_has_its_trials(names: &BTreeSet<String>) {
    for (row, cells) in TABLE.iter().zip(told()) {
        let of_cells = [row.task, row.queued, row.later, row.pool];
        for (cell, trials) in cells[1..].iter().zip(of_cells) {
            let event = row.event;
            assert_eq!(cell == "–", trials.is_empty(), "{event}: {cell}");
            for trial in trials.iter().flat_map(|name| names_of(name)) {
                let exists = names.contains(&trial) || is_bad_start(&trial);
                assert!(exists, "{event}: {cell}: no trial {trial}");
            }
        }
    }
}

/// What README.md says, row by row.
fn told() -> Vec<Vec<String>> {
    let readme = include_str!("../../../../README.md");
    let (_, section) = readme.split_once("\n## What happens to whom\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let rows = section.lines().filter(|line| line.starts_with('|'));
    let cells = |row: &str| {
        row.trim_matches('|')
            .split('|')
            .map(|cell| cell.trim().to_owned())
            .collect()
    };
    // Behind the names of the columns, and the line below them.
    rows.skip(2).map(cells).collect()
}

fn names_of(name: &str) -> Vec<String> {
    if name == "crashes" {
        return crash::names();
    }
    match name.strip_prefix("pools::") {
        Some(name) => ["threads", "processes"]
            .map(|kind| format!("{kind}::{name}"))
            .into(),
        None => vec![name.to_owned()],
    }
}

fn is_bad_start(name: &str) -> bool {
    let source = include_str!("../../bad_start.rs");
    let name = name.strip_prefix("bad_start::");
    name.is_some_and(|name| source.contains(&format!("trial(\"{name}\"")))
}
