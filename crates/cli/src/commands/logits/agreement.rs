//! Agreement: how far two models' logits are from each other, and where most.
//!
//! ```text
//! KL       Σ p (ln p − ln q)   p = softmax(expected), q = softmax(found)
//! top-1    the best token is the same; a difference matters where the expected one leads clearly
//! |Δ|      the largest difference of two logits
//! cosine   of the rows, 1 where they point the same way
//! ```

use std::fmt;

use serde::Serialize;

/// A number and where it was found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Worst {
    value: f64,
    position: usize,
}

/// The sums over all rows so far.
#[derive(Debug, Default)]
pub struct Agreement {
    rows: usize,
    kl: f64,
    cosine: f64,
    same: usize,
    worst_kl: Option<Worst>,
    worst_cosine: Option<Worst>,
    worst_top: Option<Worst>,
    worst_delta: Option<(Worst, usize)>,
}

/// What is printed.
#[derive(Debug, Serialize)]
pub struct Report {
    positions: usize,
    mean_kl: f64,
    max_kl: Option<Worst>,
    top1: f64,
    top1_same: usize,
    /// The largest lead of the expected best token where another one was found best.
    top1_worst: Option<Worst>,
    max_delta: Option<Worst>,
    max_delta_token: Option<usize>,
    mean_cosine: f64,
    min_cosine: Option<Worst>,
}

impl Agreement {
    /// Takes the next row of both. Numbers that are not finite cannot be compared.
    pub fn add(&mut self, expected: &[f32], found: &[f32]) -> Result<(), String> {
        let position = self.rows;
        for (whose, row) in [("expected", expected), ("computed", found)] {
            if let Some(token) = row.iter().position(|x| !x.is_finite()) {
                let value = row[token];
                let fault = format!("the {whose} logit of token {token} is {value}");
                return Err(format!("{fault} at position {position}"));
            }
        }
        self.rows += 1;
        let kl = divergence(expected, found);
        self.kl += kl;
        keep(&mut self.worst_kl, kl, position, |new, old| new > old);
        let cosine = cosine(expected, found);
        self.cosine += cosine;
        keep(&mut self.worst_cosine, cosine, position, |new, old| new < old);
        let (best, other) = (argmax(expected), argmax(found));
        if best == other {
            self.same += 1;
        } else {
            let lead = f64::from(expected[best]) - f64::from(expected[other]);
            keep(&mut self.worst_top, lead, position, |new, old| new > old);
        }
        for (token, (a, b)) in expected.iter().zip(found).enumerate() {
            let value = (f64::from(*a) - f64::from(*b)).abs();
            if self.worst_delta.is_none_or(|(worst, _)| value > worst.value) {
                self.worst_delta = Some((Worst { value, position }, token));
            }
        }
        Ok(())
    }

    /// Means and worst places.
    pub fn report(&self) -> Report {
        let rows = self.rows.max(1) as f64;
        Report {
            positions: self.rows,
            mean_kl: self.kl / rows,
            max_kl: self.worst_kl,
            top1: self.same as f64 / rows,
            top1_same: self.same,
            top1_worst: self.worst_top,
            max_delta: self.worst_delta.map(|(worst, _)| worst),
            max_delta_token: self.worst_delta.map(|(_, token)| token),
            mean_cosine: self.cosine / rows,
            min_cosine: self.worst_cosine,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "positions         {}", self.positions)?;
        write!(f, "mean KL           {:<12.3e}", self.mean_kl)?;
        if let Some(worst) = self.max_kl {
            write!(f, " most {:.3e} at position {}", worst.value, worst.position)?;
        }
        let share = format!("{:.2} %", self.top1 * 100.0);
        write!(f, "\ntop-1 agreement   {share:<12} {} of {}", self.top1_same, self.positions)?;
        if let Some(worst) = self.top1_worst {
            let (lead, at) = (worst.value, worst.position);
            write!(f, ", clearest miss at position {at} (by {lead:.3e})")?;
        }
        if let (Some(worst), Some(token)) = (self.max_delta, self.max_delta_token) {
            let (value, at) = (worst.value, worst.position);
            write!(f, "\nmax |Δ|           {value:<12.3e} at position {at}, token {token}")?;
        }
        write!(f, "\nmean cosine       {:<12.9}", self.mean_cosine)?;
        if let Some(worst) = self.min_cosine {
            write!(f, " least {:.9} at position {}", worst.value, worst.position)?;
        }
        writeln!(f)
    }
}

fn keep(worst: &mut Option<Worst>, value: f64, position: usize, worse: fn(f64, f64) -> bool) {
    if worst.is_none_or(|old| worse(value, old.value)) {
        *worst = Some(Worst { value, position });
    }
}

fn argmax(row: &[f32]) -> usize {
    let better = |best: usize, (at, x): (usize, &f32)| if *x > row[best] { at } else { best };
    row.iter().enumerate().fold(0, better)
}

/// ln Σ exp x
fn log_sum(row: &[f32]) -> f64 {
    let top = f64::from(row[argmax(row)]);
    top + libm::log(row.iter().map(|x| libm::exp(f64::from(*x) - top)).sum())
}

fn divergence(expected: &[f32], found: &[f32]) -> f64 {
    let (p_sum, q_sum) = (log_sum(expected), log_sum(found));
    let term = |(p, q): (&f32, &f32)| {
        let (ln_p, ln_q) = (f64::from(*p) - p_sum, f64::from(*q) - q_sum);
        libm::exp(ln_p) * (ln_p - ln_q)
    };
    // Rounding may leave a tiny negative sum of what cannot be negative.
    expected.iter().zip(found).map(term).sum::<f64>().max(0.0)
}

/// 1 where two rows point the same way.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    let norms = (dot(a, a) * dot(b, b)).sqrt();
    if norms > 0.0 { dot(a, b) / norms } else { f64::from(a == b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_rows_agree() {
        let mut agreement = Agreement::default();
        agreement.add(&[1.0, 2.0], &[1.0, 2.0]).unwrap();
        let report = agreement.report();
        assert_eq!((report.mean_kl, report.top1, report.mean_cosine), (0.0, 1.0, 1.0));
        assert_eq!(report.max_delta, Some(Worst { value: 0.0, position: 0 }));
        assert_eq!(report.top1_worst, None);
    }

    #[test]
    fn the_worst_place_is_named() {
        let mut agreement = Agreement::default();
        agreement.add(&[0.0, 0.0], &[0.0, 0.0]).unwrap();
        agreement.add(&[1.0, 0.0], &[0.0, 1.0]).unwrap();
        let report = agreement.report();
        assert_eq!(report.max_delta, Some(Worst { value: 1.0, position: 1 }));
        assert_eq!(report.top1_worst, Some(Worst { value: 1.0, position: 1 }));
        assert_eq!((report.top1, report.max_delta_token), (0.5, Some(0)));
        assert_eq!(report.min_cosine, Some(Worst { value: 0.0, position: 1 }));
        let p = 1.0 / (1.0 + libm::exp(-1.0));
        assert!((report.max_kl.unwrap().value - (2.0 * p - 1.0)).abs() < 1e-12);
        let text = report.to_string();
        assert!(text.contains("50.00 %") && text.contains("at position 1, token 0"), "{text}");
    }

    #[test]
    fn numbers_that_are_none_are_refused() {
        let fault = Agreement::default().add(&[1.0], &[f32::NAN]).unwrap_err();
        assert_eq!(fault, "the computed logit of token 0 is NaN at position 0");
    }
}
