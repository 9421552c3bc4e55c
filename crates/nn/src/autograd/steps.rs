//! What becomes of the results of ops: nodes of candle's graph, plain values, or steps of a tape.

use candle_core::{Result, Tensor};
use std::cell::RefCell;

/// The backward pass of an op.
pub(crate) trait Vjp: Send + Sync {
    /// From its operands, its result and the gradient of that, the gradients of the operands that want one; that of the first
    /// with `onto` added, which is there only where the op [`Self::adds`].
    ///
    /// # Errors
    /// Where a kernel fails.
    fn vjp(&self, args: &[Tensor], y: &Tensor, dy: &Tensor, onto: Option<&Tensor>) -> Result<Vec<Option<Tensor>>>;

    /// Whether a gradient of the first operand that is there already can be added to in the same pass.
    fn adds(&self) -> bool;
}

/// What becomes of an op's result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// A node of candle's graph.
    Graph,
    /// A value, without a graph.
    Values,
    /// A step of the tape.
    Tape,
}

/// What a tape holds.
pub(super) enum Step {
    Op {
        args: Vec<Tensor>,
        y: Tensor,
        vjp: Box<dyn Vjp>,
    },
    /// The end of a graph of candle's.
    Graph(Tensor),
}

struct State {
    mode: Mode,
    steps: Vec<Step>,
}

thread_local! {
    static STATE: RefCell<State> = const { RefCell::new(State { mode: Mode::Graph, steps: Vec::new() }) };
}

/// What this thread does with results.
pub(crate) fn mode() -> Mode {
    STATE.with_borrow(|s| s.mode)
}

/// Calls `f` in a mode; returns the steps it left.
pub(super) fn within<R>(mode: Mode, f: impl FnOnce() -> R) -> (R, Vec<Step>) {
    struct Restore(Option<State>);
    impl Drop for Restore {
        fn drop(&mut self) {
            if let Some(s) = self.0.take() {
                STATE.with_borrow_mut(|now| *now = s);
            }
        }
    }
    let fresh = State {
        mode,
        steps: Vec::new(),
    };
    let _restore = Restore(Some(STATE.with_borrow_mut(|s| std::mem::replace(s, fresh))));
    let r = f();
    (r, STATE.with_borrow_mut(|s| std::mem::take(&mut s.steps)))
}

/// Calls `f` without forming a graph of the kernels' ops.
pub(crate) fn without_graph<R>(f: impl FnOnce() -> R) -> R {
    within(Mode::Values, f).0
}

/// Whether `x` is the result of an op of candle's that a gradient has to go through.
pub(super) fn of_candle(x: &Tensor) -> bool {
    x.track_op() && !x.is_variable()
}

/// Notes an op.
pub(super) fn push<const N: usize>(args: [&Tensor; N], y: &Tensor, vjp: Box<dyn Vjp>) {
    STATE.with_borrow_mut(|s| {
        s.steps
            .extend(args.iter().filter(|a| of_candle(a)).map(|a| Step::Graph((*a).clone())));
        s.steps.push(Step::Op {
            args: args.map(Clone::clone).into(),
            y: y.clone(),
            vjp,
        });
    });
}
