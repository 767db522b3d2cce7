"""All of panicmail in this process, with a clock the test moves: what people see."""
