//! What nodes say to each other. A node speaks version N and N-1; there is only version 1 so far.

pub mod v1;
