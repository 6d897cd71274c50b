//! sd_notify. (To be written.)
