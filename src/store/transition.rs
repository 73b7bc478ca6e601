//! Inserts, transitions and removals: each reads with version, and writes if the version still stands.

use crate::base::ids::Id;
use crate::base::record::{Record, State};
use crate::store::attempts::{MAX_ATTEMPTS, backoff, check_unanswered, contention_error};
use crate::store::client_side::Current;
use crate::store::error::{InsertError, StoreError, TransitionError, UpsertError};
use crate::store::handle::{Handle, Transitioned, storage_key};
use crate::store::records::Store;
use crate::store::row::{Version, WriteOp, WriteOutcome};

impl Store {
    /// Inserts a record in state `state` under `id`. Replaces an expired record.
    ///
    /// # Errors
    /// [`InsertError::AlreadyExists`] if there is a record under `id`, or if the store fails.
    pub async fn insert<S: State>(&self, id: Id, state: S) -> Result<Handle<S::Record>, InsertError> {
        self.insert_record(id, state.into()).await
    }

    async fn insert_record<R: Record>(&self, id: Id, record: R) -> Result<Handle<R>, InsertError> {
        let handle = Handle::new(id);
        let mut unanswered = Vec::new();
        let mut seen_version = None;
        for attempt in 0..MAX_ATTEMPTS {
            let row = self.sealed(&handle, &record, seen_version)?;
            let (version, new_handle) = (row.version, self.outgoing_handle(&handle, &row));
            let operation = WriteOp::replace_or_insert(seen_version, row);
            match self.put(&handle, operation).await? {
                WriteOutcome::Written => return Ok(new_handle),
                WriteOutcome::Stale => {}
                WriteOutcome::Unknown => unanswered.push(version),
            }
            let stored = self.backend.get(&storage_key(&handle)).await?;
            seen_version = stored.as_ref().map(|row| row.version);
            if let Some(row) = stored {
                if unanswered.contains(&row.version) {
                    return Ok(self.outgoing_handle(&handle, &row));
                }
                if self.opened(&handle, &row)?.is_some() {
                    return Err(InsertError::AlreadyExists);
                }
            }
            check_unanswered(unanswered.len())?;
            backoff(attempt).await;
        }
        Err(contention_error().into())
    }

    /// Reads the record behind `handle`. `None`: there is no record, or it has expired.
    pub async fn read<R: Record>(&self, handle: &Handle<R>) -> Result<Option<R>, StoreError> {
        match self.current(handle).await? {
            Some(current) => self.opened(handle, &current.row),
            None => Ok(None),
        }
    }

    /// Applies `step` to the record behind `handle`, which must be in state `S`, and stores the
    /// result. Starts again if another writer was faster, so `step` must be pure.
    ///
    /// # Errors
    /// If there is no record, it is in another state, `step` rejects it, or the store fails.
    pub async fn transition<S, N, T, E>(
        &self,
        handle: &Handle<S::Record>,
        step: impl Fn(S) -> Result<(N, T), E>,
    ) -> Result<Transitioned<N, T>, TransitionError<E>>
    where
        S: State,
        N: State<Record = S::Record>,
    {
        let step = |record: S::Record| {
            let state = S::from_record(record).ok_or(TransitionError::WrongState)?;
            let (next, effect) = step(state).map_err(TransitionError::Rejected)?;
            Ok((next.into(), effect))
        };
        let (handle, effect) = self.apply(handle, step).await?;
        Ok(Transitioned { handle, effect })
    }

    /// Like [`Store::transition`], but from any state of the record.
    pub async fn update<R: Record, T, E>(
        &self,
        handle: &Handle<R>,
        step: impl Fn(R) -> Result<(R, T), E>,
    ) -> Result<(Handle<R>, T), TransitionError<E>> {
        self.apply(handle, |record| step(record).map_err(TransitionError::Rejected)).await
    }

    /// Updates the record behind `handle`, or inserts one; then the pure `step` gets `None`. If the
    /// handle's own record has expired or does not open, the copy of this process is updated.
    ///
    /// # Errors
    /// If `step` rejects the record, or the store fails.
    pub async fn upsert<R: Record, T, E>(
        &self,
        handle: &Handle<R>,
        step: impl Fn(Option<R>) -> Result<(R, T), E>,
    ) -> Result<(Handle<R>, T), UpsertError<E>> {
        let mut handle = handle.clone();
        loop {
            match self.update(&handle, |record| step(Some(record))).await {
                Ok(updated) => return Ok(updated),
                // `WrongState` cannot occur: an update accepts any state.
                Err(TransitionError::NotFound | TransitionError::WrongState) => {}
                Err(TransitionError::Rejected(error)) => return Err(UpsertError::Rejected(error)),
                Err(TransitionError::Store(error)) => return Err(UpsertError::Store(error)),
            }
            let (record, value) = step(None).map_err(UpsertError::Rejected)?;
            match self.insert_record(handle.id(), record).await {
                Ok(inserted) => return Ok((inserted, value)),
                // Another writer inserted it meanwhile, or this process has a copy.
                Err(InsertError::AlreadyExists) => handle = Handle::new(handle.id()),
                Err(InsertError::Store(error)) => return Err(UpsertError::Store(error)),
            }
        }
    }

    async fn apply<R: Record, T, E>(
        &self,
        handle: &Handle<R>,
        step: impl Fn(R) -> Result<(R, T), TransitionError<E>>,
    ) -> Result<(Handle<R>, T), TransitionError<E>> {
        let mut unanswered: Vec<(Version, T)> = Vec::new();
        for attempt in 0..MAX_ATTEMPTS {
            let Current {
                row: current,
                stored_version,
            } = self.current(handle).await?.ok_or(TransitionError::NotFound)?;
            // An earlier attempt was written, but its answer was lost. Do not run the step again.
            if let Some(index) = unanswered.iter().position(|(version, _)| *version == current.version) {
                return Ok((self.outgoing_handle(handle, &current), unanswered.swap_remove(index).1));
            }
            check_unanswered(unanswered.len())?;
            let record = self.opened(handle, &current)?.ok_or(TransitionError::NotFound)?;
            let (next, effect) = step(record)?;
            let row = self.sealed(handle, &next, Some(current.version))?;
            let (version, new_handle) = (row.version, self.outgoing_handle(handle, &row));
            let operation = WriteOp::replace_or_insert(stored_version, row);
            match self.put(handle, operation).await? {
                WriteOutcome::Written => return Ok((new_handle, effect)),
                WriteOutcome::Stale => {}
                WriteOutcome::Unknown => unanswered.push((version, effect)),
            }
            backoff(attempt).await;
        }
        Err(contention_error().into())
    }

    /// Removes the record behind `handle`, even if it does not open. Fails for a newer version.
    pub async fn remove<R: Record>(&self, handle: &Handle<R>) -> Result<(), StoreError> {
        let is_removable = |result: Result<Option<R>, StoreError>| match result {
            Err(error @ StoreError::NewerVersion { .. }) => Err(error),
            Ok(_) | Err(_) => Ok(true),
        };
        self.remove_with(handle, is_removable).await.map(drop)
    }

    /// Removes the record behind `handle` if `condition` holds for it. Returns whether it was
    /// removed.
    pub async fn remove_if<R: Record>(&self, handle: &Handle<R>, condition: impl Fn(&R) -> bool) -> Result<bool, StoreError> {
        self.remove_with(handle, |result| Ok(result?.as_ref().is_some_and(&condition)))
            .await
    }

    async fn remove_with<R: Record>(
        &self,
        handle: &Handle<R>,
        should_remove: impl Fn(Result<Option<R>, StoreError>) -> Result<bool, StoreError>,
    ) -> Result<bool, StoreError> {
        let mut unanswered = 0;
        for attempt in 0..MAX_ATTEMPTS {
            let Some(stored) = self.backend.get(&storage_key(handle)).await? else {
                return Ok(unanswered > 0);
            };
            check_unanswered(unanswered)?;
            if !should_remove(self.opened(handle, &stored))? {
                return Ok(false);
            }
            match self.put(handle, WriteOp::Delete(stored.version)).await? {
                WriteOutcome::Written => return Ok(true),
                WriteOutcome::Stale => {}
                WriteOutcome::Unknown => unanswered += 1,
            }
            backoff(attempt).await;
        }
        Err(contention_error())
    }
}
