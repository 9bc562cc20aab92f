mod clearing;
mod history;
mod scheduler;
