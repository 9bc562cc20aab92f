mod history;
mod scheduler;
