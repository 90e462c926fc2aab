//! The two functions that are submitted, and what their results tell.

use concurrent_futures::Payload;

use crate::plan::Plan;
use crate::tasks::{Order, Parcel, mix, work};

/// A function that is submitted.
pub trait Job {
    type Argument: Payload;
    type Result: Payload + Answer;
    const FUNCTION: fn(Self::Argument) -> Self::Result;
    /// What it is called with.
    fn argument(plan: &Plan) -> Self::Argument;
    /// The id of the task that has this argument.
    fn id(argument: &Self::Argument) -> u64;
}

/// A result that knows the id of its task.
pub trait Answer: Send + 'static {
    fn answers(&self, plan: &Plan) -> bool;
    /// Depends on the task that it is the result of.
    fn sum(&self) -> u64;
}

/// Tasks that are hardly there.
pub struct Tiny;

/// All the others.
pub struct Work;

impl Job for Tiny {
    type Argument = u64;
    type Result = u64;
    const FUNCTION: fn(u64) -> u64 = mix;

    fn argument(plan: &Plan) -> u64 {
        plan.id
    }

    fn id(argument: &u64) -> u64 {
        *argument
    }
}

impl Job for Work {
    type Argument = Order;
    type Result = Parcel;
    const FUNCTION: fn(Order) -> Parcel = work;

    fn argument(plan: &Plan) -> Order {
        plan.order()
    }

    fn id(argument: &Order) -> u64 {
        argument.parcel.id
    }
}

impl Answer for u64 {
    fn answers(&self, plan: &Plan) -> bool {
        *self == mix(plan.id)
    }

    fn sum(&self) -> u64 {
        *self
    }
}

impl Answer for Parcel {
    fn answers(&self, plan: &Plan) -> bool {
        plan.is_result(self)
    }

    fn sum(&self) -> u64 {
        mix(self.id)
    }
}
