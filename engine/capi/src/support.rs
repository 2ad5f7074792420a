//! What else modules call: messages, memory, statistics, commands, events.
