//! The Server Discovery and Monitoring specification's fold: what servers say of themselves, and how they fail, in;
//! what a client knows of its deployment, as events, out.
//!
//! Pure: no sockets and no clock. Time comes in with each input.
