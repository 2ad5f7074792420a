//! Classic BPF programs as data. What they mean is the business of whoever writes them.

/// One instruction, the `struct sock_filter` of `linux/filter.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Instruction {
    /// What to do: class, size and mode, or operation and source.
    pub code: u16,
    /// How many instructions to skip when the condition of a jump holds.
    pub jt: u8,
    /// How many instructions to skip when it does not.
    pub jf: u8,
    /// The constant, offset or index that `code` speaks of.
    pub k: u32,
}

/// A program of as many instructions as the kernel takes.
///
/// Whether it is valid (jumps inside, a return at the end) the kernel checks when it is attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    instructions: Vec<Instruction>,
}

/// A program that no kernel takes, for its length alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a classic BPF program has 1 to {INSTRUCTIONS_MAX} instructions, not {len}")]
pub struct ProgramTooLong {
    /// How many instructions there were.
    pub len: usize,
}

impl Program {
    /// A program of 1 to [`INSTRUCTIONS_MAX`] instructions, in the order in which they lie.
    ///
    /// # Errors
    /// [`ProgramTooLong`], also when there is no instruction at all.
    pub fn new(instructions: Vec<Instruction>) -> Result<Self, ProgramTooLong> {
        let len = instructions.len();
        if (1..=INSTRUCTIONS_MAX).contains(&len) {
            Ok(Self { instructions })
        } else {
            Err(ProgramTooLong { len })
        }
    }

    /// The instructions in order; at least one, at most [`INSTRUCTIONS_MAX`].
    #[must_use]
    pub fn instructions(&self) -> &[Instruction] {
        &self.instructions
    }
}

/// `BPF_MAXINSNS` of `linux/bpf_common.h`.
pub const INSTRUCTIONS_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_has_at_least_one_instruction_and_at_most_what_the_kernel_takes() {
        let instruction = Instruction {
            code: 0x06,
            jt: 0,
            jf: 0,
            k: 0,
        };
        let of =
            |len| Program::new(vec![instruction; len]).map(|program| program.instructions.len());
        assert_eq!(of(0), Err(ProgramTooLong { len: 0 }));
        assert_eq!(of(1), Ok(1));
        assert_eq!(of(4096), Ok(4096));
        assert_eq!(of(4097), Err(ProgramTooLong { len: 4097 }));
        assert_eq!(
            ProgramTooLong { len: 4097 }.to_string(),
            "a classic BPF program has 1 to 4096 instructions, not 4097"
        );
    }
}
