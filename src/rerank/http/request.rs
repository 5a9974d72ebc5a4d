//! The fields of a request, and which of them an endpoint has turned out not to take.

use std::sync::Mutex;

use rand::RngExt;
use serde_json::{Map, Value, json};

use super::HttpConfig;
use crate::rerank::TeacherRequest;
use crate::tensor::stream;

/// A field that a request can do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    /// Sent as `max_completion_tokens` where it is not taken.
    MaxTokens,
    Seed,
    N,
    TopP,
    Temperature,
}

impl Field {
    pub(super) const ALL: [Field; 5] = [Field::MaxTokens, Field::Seed, Field::N, Field::TopP, Field::Temperature];

    pub(super) fn name(self) -> &'static str {
        match self {
            Field::MaxTokens => "max_tokens",
            Field::Seed => "seed",
            Field::N => "n",
            Field::TopP => "top_p",
            Field::Temperature => "temperature",
        }
    }
}

/// The fields that an endpoint does not take, learnt from its refusals.
#[derive(Debug, Default)]
pub(super) struct Dialect {
    without: Mutex<Vec<Field>>,
}

impl Dialect {
    fn without(&self) -> std::sync::MutexGuard<'_, Vec<Field>> {
        self.without.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Learns that `field` is not taken; true the first time.
    pub(super) fn learn(&self, field: Field) -> bool {
        let mut without = self.without();
        let new = !without.contains(&field);
        if new {
            without.push(field);
        }
        new
    }

    /// A request as this endpoint takes it, and the fields in it that it could do without: not those that the user has put
    /// there.
    pub(super) fn body(
        &self,
        config: &HttpConfig,
        request: &TeacherRequest,
        attempt: u32,
    ) -> (Map<String, Value>, Vec<Field>) {
        let without = self.without().clone();
        let mut fields: Vec<Field> = Field::ALL.into_iter().filter(|field| !without.contains(field)).collect();
        let own = |name: &str| config.extra.contains_key(name);
        let completion = "max_completion_tokens";
        fields.retain(|field| {
            !own(field.name())
                && (*field != Field::Seed || config.send_seed)
                && (*field != Field::MaxTokens || !own(completion))
        });
        let mut body = Map::new();
        body.insert("model".into(), json!(config.model));
        body.insert("messages".into(), json!(request.messages));
        if without.contains(&Field::MaxTokens) {
            body.insert(completion.into(), json!(config.max_tokens));
        }
        for field in &fields {
            let value = match field {
                Field::MaxTokens => json!(config.max_tokens),
                Field::N => json!(1),
                Field::TopP => json!(config.top_p),
                Field::Temperature => json!(config.temperature),
                Field::Seed => {
                    let mut rng = stream(config.seed, "teacher request", request.slate, u64::from(attempt));
                    json!(rng.random::<u32>() >> 1)
                }
            };
            body.insert(field.name().into(), value);
        }
        body.extend(config.extra.clone());
        (body, fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rerank::Question;
    use crate::text::Message;

    #[test]
    fn what_is_not_taken_is_left_out_and_the_users_own_fields_stay() {
        let question = Question { user: 0, history: &[], candidates: &[] };
        let request = TeacherRequest { slate: 3, question, shown: None, messages: vec![Message::user("rank")] };
        let mut config = HttpConfig { model: "m".into(), max_tokens: 9, ..HttpConfig::default() };
        let dialect = Dialect::default();
        let body = |config: &HttpConfig| dialect.body(config, &request, 0);
        let (first, fields) = body(&config);
        assert_eq!((fields.as_slice(), first.get("max_completion_tokens")), (&Field::ALL[..], None));
        assert!(
            dialect.learn(Field::MaxTokens) && !dialect.learn(Field::MaxTokens) && dialect.learn(Field::Temperature)
        );
        let (second, fields) = body(&config);
        assert_eq!(fields, [Field::Seed, Field::N, Field::TopP]);
        assert_eq!((&second["max_completion_tokens"], second.get("max_tokens")), (&json!(9), None));
        assert_eq!((second.get("temperature"), &second["seed"]), (None, &first["seed"]));

        config.extra.insert("max_completion_tokens".into(), json!(5));
        config.extra.insert("seed".into(), json!(7));
        let (own, fields) = Dialect::default().body(&config, &request, 0);
        assert_eq!((&own["max_completion_tokens"], own.get("max_tokens"), &own["seed"]), (&json!(5), None, &json!(7)));
        assert_eq!(fields, [Field::N, Field::TopP, Field::Temperature]);
    }
}
