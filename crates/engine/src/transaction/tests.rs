mod clearing;
mod ends;
mod history;
mod scheduler;
