//! Records what a MongoDB client and server say to each other, without changing a byte of it.
