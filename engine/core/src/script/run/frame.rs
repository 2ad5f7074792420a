//! What operands are worth while a script runs.

use super::Slot;
use crate::event::{self, Param};
use crate::script::program::{Compare, Program};
use crate::script::scene::Scene;
use crate::script::tree::Operand;
use crate::script::value::Value;
use crate::script::variable::Variable;

/// What operands are worth at one moment of a run.
pub(super) struct Frame<'r> {
    pub(super) program: &'r Program,
    slots: &'r [Slot],
    code: i32,
    scene: &'r Scene<'r>,
}

impl<'r> Frame<'r> {
    #[inline]
    pub(super) const fn new(
        program: &'r Program,
        slots: &'r [Slot],
        code: i32,
        scene: &'r Scene<'r>,
    ) -> Self {
        Self {
            program,
            slots,
            code,
            scene,
        }
    }

    #[inline]
    pub(super) fn operand(&self, index: u32) -> Value<'r> {
        match &self.program.operands[index as usize] {
            Operand::Null => Value::Null,
            Operand::Int(value) => Value::Int(*value),
            Operand::Text(text) => Value::Text(text.as_bytes()),
            Operand::Variable(variable) => self.variable(variable),
        }
    }

    #[inline]
    pub(super) fn variable(&self, variable: &'r Variable) -> Value<'r> {
        match variable {
            Variable::Packet(pseudo) => self.scene.value(*pseudo),
            Variable::Slot(slot) => match self.slots[usize::from(*slot)] {
                Slot::Null => Value::Null,
                Slot::Int(value) => Value::Int(value),
                // It is no slot: those are copied.
                Slot::Operand(index) => self.operand(index),
            },
            Variable::ReturnCode => Value::Int(self.code),
            Variable::Param(name) => {
                let event = self.scene.event();
                let mut params = event.into_iter().flat_map(|event| &event.params);
                value(params.find(|param| param.name.as_deref() == Some(name.as_bytes())))
            }
            Variable::ParamAt(index) => {
                let event = self.scene.event();
                value(event.and_then(|event| event.params.get(*index)))
            }
        }
    }

    pub(super) fn compare(&self, compare: &Compare) -> Option<bool> {
        let (left, right) = (self.operand(compare.left), self.operand(compare.right));
        let right_is = &self.program.operands[compare.right as usize];
        let is_constant = matches!(right_is, Operand::Int(_));
        left.compare(compare.how, right, is_constant).ok()
    }
}

/// What an event says there. A number that is none for scripts was made a text on its way.
fn value<'r>(param: Option<&'r Param<'_>>) -> Value<'r> {
    match param.map(|param| &param.value) {
        None | Some(event::Value::Null) => Value::Null,
        Some(event::Value::Int(number)) => i32::try_from(*number).map_or(Value::Null, Value::Int),
        Some(event::Value::Str(text)) => Value::Text(text),
    }
}
