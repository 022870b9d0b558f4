//! The Link contract and its implementations (to come)
