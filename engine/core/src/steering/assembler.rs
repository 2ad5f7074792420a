//! Classic BPF with names instead of numbers and labels instead of distances.
//!
//! The machine (`Documentation/networking/filter.rst` of Linux): an accumulator A, an index register X, 16 slots of
//! scratch memory, all of 32 bits; loads from the packet are big-endian; jumps go forward only.

use binrush_net::bpf::Instruction;

/// A program that grows line by line.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    lines: Vec<Line>,
    /// Before which line each label stands, once it does.
    labels: Vec<Option<usize>>,
}

/// A place to jump to. Made first, put down later: all jumps go forward.
#[derive(Debug, Clone, Copy)]
pub(super) struct Label(usize);

/// A cell of the scratch memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot(pub(super) u32);

/// What is no jump.
#[derive(Debug, Clone, Copy)]
pub(super) enum Op {
    /// A = the number.
    Set(u32),
    /// A = length of the packet.
    LoadLen,
    /// A = 4 bytes of the packet at this offset.
    LoadWord(u32),
    /// A = 2 bytes of the packet at this offset.
    LoadHalf(u32),
    /// A = the byte of the packet at this offset.
    LoadByte(u32),
    /// A = 4 bytes of the packet at X plus this.
    LoadWordAtX(u32),
    /// A = the byte of the packet at X plus this.
    LoadByteAtX(u32),
    /// A = the slot.
    Load(Slot),
    /// X = the slot.
    LoadX(Slot),
    /// The slot = A.
    Store(Slot),
    /// X = A.
    CopyToX,
    /// A += the number.
    Add(u32),
    /// A += X.
    AddX,
    /// A *= the number.
    Multiply(u32),
    /// A &= the number.
    And(u32),
    /// A |= X.
    OrX,
    /// A ^= X.
    XorX,
    /// A >>= the number.
    ShiftRight(u32),
    /// Ends with this answer.
    Answer(u32),
    /// Ends with A as the answer.
    AnswerA,
}

/// What a branch asks.
#[derive(Debug, Clone, Copy)]
pub(super) enum Test {
    /// A == the number.
    Equal(u32),
    /// A > the number.
    Above(u32),
    /// A >= the number.
    AtLeast(u32),
    /// A >= X.
    AtLeastX,
    /// A & the number != 0.
    AnyBit(u32),
}

#[derive(Debug, Clone, Copy)]
enum Line {
    Plain(Op),
    /// Goes to the label when the test says so, else on with the next line.
    Branch(Test, bool, Label),
    Goto(Label),
}

impl Assembler {
    /// A label that stands nowhere yet.
    pub(super) fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// Puts the label down: jumps to it arrive at the line that comes next.
    pub(super) fn bind(&mut self, label: Label) {
        let before = self.labels[label.0].replace(self.lines.len());
        assert!(before.is_none(), "a label stands in one place");
    }

    /// Appends these, in order.
    pub(super) fn ops(&mut self, ops: impl IntoIterator<Item = Op>) {
        self.lines.extend(ops.into_iter().map(Line::Plain));
    }

    /// Goes to the label if the test holds.
    pub(super) fn when(&mut self, test: Test, label: Label) {
        self.lines.push(Line::Branch(test, true, label));
    }

    /// Goes to the label if the test does not hold.
    pub(super) fn unless(&mut self, test: Test, label: Label) {
        self.lines.push(Line::Branch(test, false, label));
    }

    pub(super) fn goto(&mut self, label: Label) {
        self.lines.push(Line::Goto(label));
    }

    /// The instructions. A conditional jump reaches over 255 of them; one that goes farther hops over an
    /// unconditional one, which reaches anything.
    ///
    /// # Panics
    /// When a label was not put down, or stands before a jump to it.
    pub(super) fn assemble(&self) -> Vec<Instruction> {
        let (far, starts) = self.layout();
        let mut program = Vec::with_capacity(starts[self.lines.len()]);
        for (index, line) in self.lines.iter().enumerate() {
            let next = starts[index + 1];
            match *line {
                Line::Plain(op) => program.push(op.encode()),
                Line::Goto(label) => program.push(jump(self.distance(&starts, next, label))),
                Line::Branch(test, when, label) if far[index] => {
                    program.push(test.encode(!when, 1));
                    program.push(jump(self.distance(&starts, next, label)));
                }
                Line::Branch(test, when, label) => {
                    let distance = self.distance(&starts, next, label);
                    let near = u8::try_from(distance).expect("all others are far");
                    program.push(test.encode(when, near));
                }
            }
        }
        program
    }

    /// Which branches go too far for one instruction, and at which instruction each line begins.
    fn layout(&self) -> (Vec<bool>, Vec<usize>) {
        let mut far = vec![false; self.lines.len()];
        loop {
            let starts = self.starts(&far);
            let too_far = |&(index, line): &(usize, &Line)| {
                matches!(line, Line::Branch(_, _, label)
                    if !far[index] && self.distance(&starts, starts[index] + 1, *label) > NEAR_MAX)
            };
            let lines = self.lines.iter().enumerate();
            let grown: Vec<usize> = lines.filter(too_far).map(|(index, _)| index).collect();
            if grown.is_empty() {
                return (far, starts);
            }
            // A branch that grows pushes others farther, so they are looked at again.
            grown.into_iter().for_each(|index| far[index] = true);
        }
    }

    /// At which instruction each line begins, and where the program ends.
    fn starts(&self, far: &[bool]) -> Vec<usize> {
        let mut next = 0;
        let mut starts = Vec::with_capacity(far.len() + 1);
        for far in far {
            starts.push(next);
            next += 1 + usize::from(*far);
        }
        starts.push(next);
        starts
    }

    /// How many instructions lie between `from` and the label.
    fn distance(&self, starts: &[usize], from: usize, label: Label) -> usize {
        let line = self.labels[label.0].expect("every label is put down");
        let to = starts[line];
        to.checked_sub(from).expect("jumps go forward")
    }
}

impl Op {
    /// `linux/bpf_common.h`, `linux/filter.h`.
    fn encode(self) -> Instruction {
        let (code, k) = match self {
            Self::Set(k) => (0x00, k),
            Self::LoadLen => (0x80, 0),
            Self::LoadWord(k) => (0x20, k),
            Self::LoadHalf(k) => (0x28, k),
            Self::LoadByte(k) => (0x30, k),
            Self::LoadWordAtX(k) => (0x40, k),
            Self::LoadByteAtX(k) => (0x50, k),
            Self::Load(Slot(k)) => (0x60, k),
            Self::LoadX(Slot(k)) => (0x61, k),
            Self::Store(Slot(k)) => (0x02, k),
            Self::CopyToX => (0x07, 0),
            Self::Add(k) => (0x04, k),
            Self::AddX => (0x0c, 0),
            Self::Multiply(k) => (0x24, k),
            Self::And(k) => (0x54, k),
            Self::OrX => (0x4c, 0),
            Self::XorX => (0xac, 0),
            Self::ShiftRight(k) => (0x74, k),
            Self::Answer(k) => (0x06, k),
            Self::AnswerA => (0x16, 0),
        };
        Instruction {
            code,
            jt: 0,
            jf: 0,
            k,
        }
    }
}

impl Test {
    /// A jump over `distance` instructions when the test holds, or when it does not.
    fn encode(self, when: bool, distance: u8) -> Instruction {
        let (code, k) = match self {
            Self::Equal(k) => (0x15, k),
            Self::Above(k) => (0x25, k),
            Self::AtLeast(k) => (0x35, k),
            Self::AtLeastX => (0x3d, 0),
            Self::AnyBit(k) => (0x45, k),
        };
        let (jt, jf) = if when { (distance, 0) } else { (0, distance) };
        Instruction { code, jt, jf, k }
    }
}

fn jump(distance: usize) -> Instruction {
    Instruction {
        code: 0x05,
        jt: 0,
        jf: 0,
        k: u32::try_from(distance).expect("a program has thousands of instructions at most"),
    }
}

const NEAR_MAX: usize = u8::MAX as usize;

#[cfg(test)]
mod tests {
    use super::*;

    /// A branch over so many instructions, then the two answers.
    fn branch_over(count: usize, when: bool) -> Vec<Instruction> {
        let mut asm = Assembler::default();
        let there = asm.label();
        if when {
            asm.when(Test::Equal(7), there);
        } else {
            asm.unless(Test::Equal(7), there);
        }
        asm.ops(vec![Op::Add(0); count - 1]);
        asm.ops([Op::Answer(1)]);
        asm.bind(there);
        asm.ops([Op::Answer(2)]);
        asm.assemble()
    }

    #[test]
    fn a_branch_reaches_255_instructions_and_hops_over_a_jump_beyond() {
        let near = branch_over(255, true);
        assert_eq!((near.len(), near[0].jt, near[0].jf), (257, 255, 0));
        let far = branch_over(256, true);
        assert_eq!((far.len(), far[0].jt, far[0].jf), (259, 0, 1));
        assert_eq!((far[1].code, far[1].k), (0x05, 256));
        let near = branch_over(255, false);
        assert_eq!((near.len(), near[0].jt, near[0].jf), (257, 0, 255));
        let far = branch_over(256, false);
        assert_eq!((far.len(), far[0].jt, far[0].jf), (259, 1, 0));
        assert_eq!((far[1].code, far[1].k), (0x05, 256));
    }

    #[test]
    fn a_branch_pushed_out_of_reach_by_others_hops_too() {
        let mut asm = Assembler::default();
        let (here, there) = (asm.label(), asm.label());
        // Over 255 instructions, as long as the second one is short.
        asm.when(Test::Equal(1), here);
        asm.when(Test::Equal(2), there);
        asm.ops(vec![Op::Add(0); 254]);
        asm.bind(here);
        asm.ops(vec![Op::Add(0); 2]);
        asm.bind(there);
        asm.ops([Op::Answer(0)]);
        let program = asm.assemble();
        assert_eq!(program.len(), 4 + 254 + 2 + 1);
        assert_eq!((program[1].code, program[1].k), (0x05, 2 + 254));
        assert_eq!((program[3].code, program[3].k), (0x05, 254 + 2));
    }

    #[test]
    #[should_panic(expected = "jumps go forward")]
    fn a_jump_back_is_a_bug() {
        let mut asm = Assembler::default();
        let here = asm.label();
        asm.bind(here);
        asm.goto(here);
        asm.assemble();
    }
}
