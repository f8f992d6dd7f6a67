//! OpenCode's questions, as a person is asked them: one at a time, though OpenCode asks several at once.

use serde::Deserialize;

use crate::agent::answers::{Answer, Answers};
use crate::agent::{AgentEvent, QuestionKind};

/// Answers to choose from, as the session takes them.
const OPTIONS_MAX: usize = 20;
/// Longest text of a question, in bytes, as the session takes it.
const PROMPT_MAX_BYTES: usize = 12 * 1024;

/// `properties` of `question.asked`, and an entry of `GET /question`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Asked {
    /// `que_…`
    pub id: String,
    /// Whose turn waits.
    #[serde(rename = "sessionID")]
    pub session_id: String,
    /// The questions.
    pub questions: Vec<Question>,
}

/// One question.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Question {
    #[serde(rename = "question")]
    words: String,
    #[serde(default)]
    header: String,
    #[serde(default)]
    options: Vec<Choice>,
    #[serde(default)]
    multiple: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Choice {
    label: String,
    #[serde(default)]
    description: String,
}

impl Question {
    /// The question with what its choices mean.
    fn text(&self) -> String {
        let asked = [&self.words, &self.header].into_iter().map(|text| text.trim()).find(|text| !text.is_empty());
        let mut text = asked.unwrap_or("The agent asks something, and does not say what.").to_owned();
        if self.multiple {
            text += "\n\nSeveral answers are possible; separate them by commas.";
        }
        let told = self.options.iter().filter(|choice| !choice.description.trim().is_empty());
        let told: Vec<String> = told.map(|choice| format!("- {}: {}", choice.label, choice.description)).collect();
        if !told.is_empty() {
            text = format!("{text}\n\n{}", told.join("\n"));
        }
        oi_protocol::text::head_and_tail(&text, PROMPT_MAX_BYTES).unwrap_or(text)
    }

    fn options(&self) -> Option<Vec<String>> {
        let labels = self.options.iter().map(|choice| choice.label.clone()).filter(|label| !label.trim().is_empty());
        let labels: Vec<String> = labels.take(OPTIONS_MAX).collect();
        (!labels.is_empty()).then_some(labels)
    }

    /// What was chosen. Several choices come as one text.
    fn chosen(&self, answer: Answer) -> Vec<String> {
        let Some(answer) = answer else { return Vec::new() };
        if self.multiple {
            let words: Vec<&str> = answer.split([',', '\n']).map(str::trim).filter(|word| !word.is_empty()).collect();
            if words.iter().all(|word| self.options.iter().any(|choice| choice.label == *word)) {
                return words.into_iter().map(str::to_owned).collect();
            }
        }
        vec![answer]
    }
}

impl Asked {
    /// The session's name of the question at `index`.
    fn request_id(&self, index: usize) -> String {
        format!("{}.{index}", self.id)
    }

    /// What a person is asked.
    pub fn events(&self) -> Vec<AgentEvent> {
        let of = |(index, question): (usize, &Question)| AgentEvent::Question {
            request_id: self.request_id(index),
            kind: QuestionKind::Question,
            text: question.text(),
            options: question.options(),
        };
        self.questions.iter().enumerate().map(of).collect()
    }

    /// What to reply, once every question has ended.
    pub fn reply(&self, answers: &Answers) -> Option<Vec<Vec<String>>> {
        let of = |(index, question): (usize, &Question)| {
            answers.of(&self.request_id(index)).map(|answer| question.chosen(answer))
        };
        self.questions.iter().enumerate().map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn asked() -> Asked {
        let choices = json!([{"label": "red", "description": "the red one"}, {"label": "blue", "description": ""}]);
        serde_json::from_value(json!({"id": "que_1", "sessionID": "ses_1", "questions": [
            {"question": "Which one?", "header": "Pick", "options": choices},
            {"question": "Which ones?", "options": choices, "multiple": true}]}))
        .expect("a question of OpenCode")
    }

    #[test]
    fn each_question_is_asked_by_itself_with_what_its_choices_mean() {
        let events = asked().events();
        let AgentEvent::Question { request_id, text, options, .. } = &events[0] else { panic!("a question") };
        assert_eq!((request_id.as_str(), text.as_str()), ("que_1.0", "Which one?\n\n- red: the red one"));
        assert_eq!(options.as_deref(), Some(&["red".to_owned(), "blue".to_owned()][..]));
        assert_eq!(events.len(), 2);
    }

    #[test]
    fn opencode_gets_its_reply_when_all_are_answered() {
        let answers = Answers::default();
        answers.put("que_1.0", Some("green, if there is one".to_owned()));
        assert_eq!(asked().reply(&answers), None);
        answers.put("que_1.1", Some("red, blue".to_owned()));
        answers.put("que_1.1", Some("too late".to_owned()));
        let reply = asked().reply(&answers).expect("all are answered");
        assert_eq!(reply, [vec!["green, if there is one"], vec!["red", "blue"]]);
        answers.clear();
        answers.put("que_1.0", None);
        answers.put("que_1.1", Some("red, and more".to_owned()));
        assert_eq!(asked().reply(&answers).expect("ended"), [vec![], vec!["red, and more"]]);
    }
}
