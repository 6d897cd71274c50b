//! Decoder stamps to UTC. (To be completed.)
