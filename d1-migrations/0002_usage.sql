-- What each prompt used, as its session told last, and the sums of each month (UTC) by person; of all under ''.
CREATE TABLE prompt_usage (
  session_id TEXT NOT NULL,
  message_id TEXT NOT NULL,
  user_id TEXT NOT NULL,
  month TEXT NOT NULL,
  usd REAL NOT NULL,
  tokens INTEGER NOT NULL,
  PRIMARY KEY (session_id, message_id)
) WITHOUT ROWID;
CREATE TABLE month_usage (
  month TEXT NOT NULL,
  user_id TEXT NOT NULL,
  usd REAL NOT NULL,
  tokens INTEGER NOT NULL,
  PRIMARY KEY (month, user_id)
) WITHOUT ROWID;
