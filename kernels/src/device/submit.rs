//! Submission on a thread of its own: it makes the driver's commands of what was recorded and submits them, in order, while
//! the host records what comes next. Half of what a dispatch costs the host is spent there.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use wgpu::util::StagingBelt;

/// What is recorded up to a submission.
pub(super) struct Recorded {
    pub(super) encoder: wgpu::CommandEncoder,
    /// What its uploads lie in, closed.
    pub(super) belt: Option<StagingBelt>,
}

/// What comes back from one.
pub(super) struct Submitted {
    pub(super) index: wgpu::SubmissionIndex,
    /// For later uploads.
    pub(super) belt: Option<StagingBelt>,
    /// Time it took to make the driver's commands.
    pub(super) encoding: Duration,
}

/// The thread, and what it has been given. It ends when this is dropped.
pub(super) struct Submitter {
    /// None while dropping.
    recorded: Option<Sender<Recorded>>,
    submitted: Receiver<Submitted>,
    thread: Option<JoinHandle<()>>,
    under_way: usize,
}

impl Submitter {
    pub(super) fn new(queue: wgpu::Queue) -> Submitter {
        let (recorded, jobs) = channel::<Recorded>();
        let (results, submitted) = channel();
        let thread = std::thread::spawn(move || {
            for Recorded { encoder, mut belt } in jobs {
                let start = Instant::now();
                let commands = encoder.finish();
                let encoding = start.elapsed();
                let index = queue.submit([commands]);
                belt.iter_mut().for_each(StagingBelt::recall);
                if results.send(Submitted { index, belt, encoding }).is_err() {
                    break;
                }
            }
        });
        Submitter { recorded: Some(recorded), submitted, thread: Some(thread), under_way: 0 }
    }

    /// Hands on what was recorded; false if the thread is gone. Nothing of it may be mapped before [`Self::next`] has returned it.
    #[must_use]
    pub(super) fn submit(&mut self, recorded: Recorded) -> bool {
        let taken = self.recorded.as_ref().is_some_and(|jobs| jobs.send(recorded).is_ok());
        self.under_way += taken as usize;
        taken
    }

    /// What has been handed on and not been returned.
    pub(super) fn under_way(&self) -> usize {
        self.under_way
    }

    /// Waits for the oldest of what is under way to be submitted; none if nothing is, or the thread is gone.
    pub(super) fn next(&mut self) -> Option<Submitted> {
        if self.under_way == 0 {
            return None;
        }
        match self.submitted.recv() {
            Ok(submitted) => {
                self.under_way -= 1;
                Some(submitted)
            }
            Err(_) => {
                self.under_way = 0;
                None
            }
        }
    }
}

impl Drop for Submitter {
    fn drop(&mut self) {
        self.recorded = None;
        // a panic there has been reported by the thread itself
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
