//! Lists and their cursors.

use runtime::ports::Catalog as _;
use runtime::ports::Extra;
use runtime::ports::Journal as _;
use runtime::ports::PageRequest;
use runtime::ports::RunFilter;
use runtime::ports::RunStatus;

use super::*;

pub(super) fn page(limit: usize, cursor: Option<String>) -> PageRequest {
    PageRequest { limit, cursor }
}

/// Every combination of filters, page by page, shows each run once in the order of creation, newest first, though runs
/// begin between the pages.
#[tokio::test]
async fn pages_show_each_run_once_while_others_begin() {
    let (_folder, store) = store();
    let statuses = [RunStatus::Running, RunStatus::Failed, RunStatus::Completed];
    let mut begun = Vec::new();
    let begin = async |number: usize| {
        let mut row = summary(&format!("run-{}", (number * 7919) % 1000), statuses[number % 3]);
        row.workflow = if number.is_multiple_of(2) { "even" } else { "odd" }.into();
        store
            .append(
                &ScopeKey::root(row.run.clone()),
                &record(1, "x"),
                vec![Extra::Summary(Box::new(row.clone()))],
            )
            .await
            .unwrap();
        row
    };
    for number in 0..60 {
        begun.push(begin(number).await);
    }
    let workflows = [None, Some("even"), Some("odd"), Some("none")];
    let wanted: [&[RunStatus]; 3] = [&[], &[RunStatus::Failed], &[RunStatus::Completed, RunStatus::Running]];
    let mut later = 60;
    for (workflow, statuses) in
        workflows.iter().flat_map(|workflow| wanted.iter().map(move |statuses| (workflow, statuses)))
    {
        let filter = RunFilter { workflow: workflow.map(Into::into), statuses: statuses.to_vec() };
        let fits = |row: &&RunSummary| {
            workflow.is_none_or(|workflow| *row.workflow == *workflow)
                && (statuses.is_empty() || statuses.contains(&row.status))
        };
        let expected: Vec<_> = begun.iter().rev().filter(fits).map(|row| row.run.clone()).collect();
        let (mut seen, mut cursor) = (Vec::new(), None);
        loop {
            let shown = store.runs(&filter, &page(7, cursor)).await.unwrap();
            assert!(shown.items.len() <= 7);
            seen.extend(shown.items.into_iter().map(|row| row.run));
            if shown.next.is_none() {
                break;
            }
            cursor = shown.next;
            begun.push(begin(later).await);
            later += 1;
        }
        assert_eq!(seen, expected, "{filter:?}");
    }
}

#[tokio::test]
async fn a_cursor_of_another_list_is_refused() {
    let (_folder, store) = store();
    for number in 0..3 {
        let row = Box::new(summary(&number.to_string(), RunStatus::Running));
        store.append(&scope(&number.to_string()), &record(1, "x"), vec![Extra::Summary(row)]).await.unwrap();
    }
    let cursor = store.runs(&RunFilter::default(), &page(1, None)).await.unwrap().next.unwrap();
    let crooked = ["", "r", "rzz", "r3", "réé", "1", &format!("{cursor}ff"), &cursor.replacen('r', "a", 1)];
    for cursor in crooked {
        let error = store.runs(&RunFilter::default(), &page(1, Some(cursor.to_owned()))).await.unwrap_err();
        assert_eq!(error.code, "CURSOR_INVALID", "{cursor}");
    }
    let error = store.approvals(&<_>::default(), &page(1, Some(cursor))).await.unwrap_err();
    assert_eq!(error.code, "CURSOR_INVALID");
}
