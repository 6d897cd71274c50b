//! The real binary as a child process: killed at any moment, stopped, on a full disk, with a broken
//! queue, beside another one, and as a timer types its commands. Decoders and cloud are simulated
//! here, in the process of the test.

mod account;
mod audit;
mod by_hand;
mod capture;
mod commands;
mod correct;
mod disk;
mod faketime;
mod faults;
mod find;
mod gone;
mod hold;
mod home;
mod kill;
mod latency;
mod live;
mod memory;
mod metrics;
mod not_set_up;
mod output;
mod overload;
mod passings;
mod probe;
mod queue;
mod reading;
mod rewind;
mod security;
mod session;
mod setup;
mod signals;
mod stop;
mod tls;
mod typed;
mod upgrade;
mod watch;
mod watchdog;
