//! What the command line asks for.

use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::thread;

use lexopt::{Arg, Parser, ValueExt};

use crate::kernel::Kernel;
use crate::runner::Runner;

const HELP: &str = "\
Computes π by throwing darts, serially and in parallel.

Usage: calc_pi [OPTIONS]

Options:
      --executor <NAME>  What to measure, beside the yardsticks: serial, threads,
                         processes, or all [default: all]
      --kernel <NAME>    How darts are thrown [default: scalar]
                           scalar: One dart at a time
                           array:  Arrays of coordinates, then a count over them
                           simd:   32 darts at a time, in vector registers
                           all:    The three, one after the other
      --gil              Throw them under one lock for the whole process
      --workers <N>      Threads or processes that work at a time [default: as many as cores]
      --samples <N>      Darts to throw [default: 100000000]
      --seed <S>         Where the random numbers start [default: somewhere else each time]
      --rounds <N>       How often everything is measured; the best time counts [default: 5]
  -h, --help             Print help
";

pub struct Args {
    pub executors: &'static [Runner],
    pub kernels: &'static [Kernel],
    pub gil: bool,
    pub workers: NonZeroUsize,
    pub samples: NonZeroU64,
    pub seed: Option<u64>,
    pub rounds: NonZeroU32,
}

impl Args {
    /// `None` where help was asked for, and given.
    pub fn parse() -> Result<Option<Self>, lexopt::Error> {
        let mut args = Self {
            executors: executors("all")?,
            kernels: kernels("scalar")?,
            gil: false,
            workers: thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            samples: NonZeroU64::new(100_000_000).expect("it is more than 0"),
            seed: None,
            rounds: NonZeroU32::new(5).expect("it is more than 0"),
        };
        let mut parser = Parser::from_env();
        while let Some(arg) = parser.next()? {
            match arg {
                Arg::Long("executor") => args.executors = parser.value()?.parse_with(executors)?,
                Arg::Long("kernel") => args.kernels = parser.value()?.parse_with(kernels)?,
                Arg::Long("gil") => args.gil = true,
                Arg::Long("workers") => args.workers = parser.value()?.parse()?,
                Arg::Long("samples") => args.samples = parser.value()?.parse()?,
                Arg::Long("seed") => args.seed = Some(parser.value()?.parse()?),
                Arg::Long("rounds") => args.rounds = parser.value()?.parse()?,
                Arg::Short('h') | Arg::Long("help") => {
                    print!("{HELP}");
                    return Ok(None);
                }
                _ => return Err(arg.unexpected()),
            }
        }
        Ok(Some(args))
    }
}

fn executors(name: &str) -> Result<&'static [Runner], &'static str> {
    use Runner::{BareThreads, Processes, Serial, Threads};
    Ok(match name {
        "serial" => &[Serial],
        "threads" => &[Serial, BareThreads, Threads],
        "processes" => &[Serial, BareThreads, Processes],
        "all" => &[Serial, BareThreads, Threads, Processes],
        _ => return Err("executors are serial, threads, processes, all"),
    })
}

fn kernels(name: &str) -> Result<&'static [Kernel], &'static str> {
    use Kernel::{Array, Scalar, Simd};
    Ok(match name {
        "scalar" => &[Scalar],
        "array" => &[Array],
        "simd" => &[Simd],
        "all" => &[Scalar, Array, Simd],
        _ => return Err("kernels are scalar, array, simd, all"),
    })
}
