//! A task that meddles with the connection between its worker and the program.

use std::fs;
use std::io::Write;
use std::mem::ManuallyDrop;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use concurrent_futures::{Error, Executor};
use libtest_mimic::Trial;

use super::death::death;
use crate::support::tasks::own_pid;
use crate::support::{Kind, Processes, assert_works, trials};

pub fn trials() -> Vec<Trial> {
    trials![Processes::NAME;
        a_worker_sends_garbage,
        a_worker_sends_garbage_and_stays,
        a_worker_closes_its_link,
        a_worker_prints_and_reads_undisturbed,
        a_worker_closes_its_standard_descriptors,
    ]
}

/// The sockets that this process has open.
pub fn sockets() -> Vec<RawFd> {
    let entries = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let is_socket = |path: &std::path::PathBuf| {
        fs::read_link(path).is_ok_and(|target| target.to_string_lossy().starts_with("socket:"))
    };
    let paths = entries.map(|entry| entry.path()).filter(is_socket);
    paths
        .filter_map(|path| path.file_name()?.to_str()?.parse().ok())
        .collect()
}

/// Writes into every socket that there is.
pub fn write_everywhere(bytes: &[u8]) {
    for fd in sockets() {
        // SAFETY: the descriptor is open, and stays so: it is not closed here.
        let file = ManuallyDrop::new(fs::File::from(unsafe { OwnedFd::from_raw_fd(fd) }));
        // What refuses it has got no garbage.
        let _ = (&*file).write_all(bytes);
    }
}

fn a_worker_sends_garbage() {
    for byte in [0, 1, 7, 0x7f, 0xff] {
        let pool = Processes::pool(1);
        let future = pool.submit(
            |byte| {
                write_everywhere(&[byte; 4096]);
                own_pid(())
            },
            byte,
        );
        // Whether it is killed or dies of it: before it is through with the task, or afterwards.
        let sender = match future.result() {
            Ok(pid) => Some(pid),
            Err(Error::WorkerDied(_)) => None,
            other => panic!("{byte}: {other:?}"),
        };
        // A task that it runs as it is found out dies with it.
        while sender.is_some() {
            match pool.submit(own_pid, ()).result() {
                Ok(pid) if sender != Some(pid) => break,
                Ok(_) | Err(Error::WorkerDied(_)) => {}
                other => panic!("{byte}: {other:?}"),
            }
        }
        assert_works(&pool);
    }
}

fn a_worker_sends_garbage_and_stays() {
    let pool = Processes::pool(1);
    let future = pool.submit(
        |bytes: Vec<u8>| -> u8 {
            write_everywhere(&bytes);
            loop {
                std::thread::park();
            }
        },
        vec![0xff; 64],
    );
    assert_eq!(death(future).signal(), Some(libc::SIGKILL));
    assert_works(&pool);
}

fn a_worker_closes_its_link() {
    let pool = Processes::pool(1);
    let pid = pool.submit(own_pid, ()).result().unwrap();
    let future = pool.submit(
        |()| -> u8 {
            for fd in sockets() {
                // SAFETY: none: it is the worker's own. That is what this is about.
                unsafe { libc::close(fd) };
            }
            loop {
                std::thread::park();
            }
        },
        (),
    );
    assert_eq!(death(future).pid(), pid);
    assert_works(&pool);
}

fn a_worker_prints_and_reads_undisturbed() {
    let pool = Processes::pool(1);
    let read = pool.submit(
        |()| {
            println!("a task prints this line");
            eprintln!("a task prints this line, too");
            let mut text = String::new();
            std::io::stdin().read_line(&mut text).unwrap()
        },
        (),
    );
    assert_eq!(read.result().unwrap(), 0, "its input is empty");
    assert_works(&pool);
}

fn a_worker_closes_its_standard_descriptors() {
    let pool = Processes::pool(1);
    let closed = pool.submit(
        |()| {
            for fd in 0..3 {
                // SAFETY: std expects these to be open, but fails softly where they are not.
                unsafe { libc::close(fd) };
            }
        },
        (),
    );
    closed.result().unwrap();
    assert_works(&pool);
}
