//! The connection loop: tasks that come as frames over the connection, one after the other.
//!
//! `serve` runs it until the program sends the worker to the queue, and the queue loop for each rendezvous.
//! The program's side is `process/host/pipeline.rs`.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use crate::clock;
use crate::process::shm::arena::worker::WorkerArena;
use crate::process::shm::queue::SlotKind;
use crate::process::shm::signals::SharedSignals;
use crate::process::worker::context::{Directive, KEPT_IDLE, Worker};
use crate::process::worker::outcome::body_of;
use crate::process::worker::task_clock::TaskClock;
use crate::remote::encoded::Encoded;
use crate::remote::fields::FieldReader;
use crate::remote::function::FunctionRef;
use crate::remote::stub::Argument;
use crate::shared::registry;
use crate::sync::deadline::Deadline;
use crate::transport::fault::Fault;
use crate::transport::framed::Received;
use crate::transport::wire::{Header, Kind};

impl Worker {
    /// Runs the tasks that come over the connection, until the program closes its end or sends the worker
    /// back to the queue.
    pub(super) fn run_tasks(&mut self) -> io::Result<Directive> {
        let mut code = 0;
        let mut body = Vec::new();
        while let Received::Some(header) = self.next_header()? {
            if header.kind == Kind::Resume {
                return Ok(Directive::Resume);
            }
            let call = self.receive_task(header, &mut body)?;
            if self.signals.as_ref().is_some_and(SharedSignals::is_raised) {
                self.send_outcome(header.task, Err(Fault::LeftAlone))?;
                continue;
            }
            let clock = TaskClock {
                connection: Arc::clone(self.stream.borrow().stream()),
                task: header.task,
                fork_epoch: self.fork_epoch,
            };
            let run = || match header.kind {
                Kind::StoredTask => self.run_stored(call, &body, WorkerArena::argument),
                _ => self.run(call, Argument::Kept(&mut body)),
            };
            let run = || self.progress.connected(run);
            let outcome = clock::measured(Rc::new(clock), run);
            // Python's `Process` exits with 1 if its function raised.
            code = i32::from(matches!(outcome, Err(Fault::Panicked(_))));
            self.send_outcome(header.task, outcome)?;
        }
        Ok(Directive::Close(code))
    }

    /// Receives the next header. If none comes for [`KEPT_IDLE`], unmaps shared memory, because the program
    /// cannot wake a worker that waits here to tell it that a region was released, and gives back the memory
    /// of results.
    fn next_header(&mut self) -> io::Result<Received<Header>> {
        let is_warm = |worker_arena: &Arc<WorkerArena>| worker_arena.is_warm();
        if registry::keeps_any() || self.worker_arena.as_ref().is_some_and(is_warm) {
            self.stream
                .borrow_mut()
                .give_up_at(Deadline::after(KEPT_IDLE));
            let received = self.stream.borrow_mut().receive_header();
            self.stream.borrow_mut().give_up_at(Deadline::never());
            match received {
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    registry::forget_all();
                    self.purge();
                }
                received => return received,
            }
        }
        self.stream.borrow_mut().receive_header()
    }

    fn receive_task(&mut self, header: Header, argument: &mut Vec<u8>) -> io::Result<FunctionRef> {
        let size = header.length.checked_sub(FunctionRef::SIZE as u64);
        let (Kind::Task | Kind::StoredTask, Some(size)) = (header.kind, size) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        self.stream
            .borrow_mut()
            .receive_body(FunctionRef::SIZE as u64, argument)?;
        let Some(call) = FunctionRef::read(&mut FieldReader::new(argument)) else {
            unreachable!("receive_body gives what was asked for")
        };
        self.stream.borrow_mut().receive_body(size, argument)?;
        Ok(call)
    }

    fn send_outcome(&self, task: u64, outcome: Result<Encoded, Fault>) -> io::Result<()> {
        let (form, body) = body_of(outcome);
        let kind = match form {
            SlotKind::StoredValue => Kind::StoredValue,
            SlotKind::Fault => Kind::Fault,
            _ => Kind::Value,
        };
        let length = body.len() as u64;
        let header = Header { kind, task, length };
        self.stream.borrow().send_bringing(header, &body)
    }
}
