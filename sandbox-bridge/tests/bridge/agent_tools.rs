//! The agent's tools, asked as the agent asks them.
