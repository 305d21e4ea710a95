//! The component's face: WIT types to core types and back, and nothing else.
