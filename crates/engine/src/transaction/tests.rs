mod clearing;
mod ends;
mod history;
mod raced_ends;
mod scheduler;
