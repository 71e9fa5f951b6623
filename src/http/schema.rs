//! Schemas of what goes over the API, as tables name them.

use std::collections::BTreeMap;

use utoipa::ToSchema;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, SchemaFormat, SchemaType, Type};
use utoipa::openapi::{Ref, RefOr, Schema};

/// Collects the schemas that a document refers to.
#[derive(Default)]
pub struct Schemas(pub BTreeMap<String, RefOr<Schema>>);

impl Schemas {
    /// Takes a type in, with all that it refers to, and refers to it.
    pub fn of<T: ToSchema>(&mut self) -> RefOr<Schema> {
        let mut found = vec![(T::name().into_owned(), T::schema())];
        T::schemas(&mut found);
        for (name, schema) in found {
            // Types are told apart by their last name only: two of one name would share a schema.
            let known = self.0.insert(name.clone(), schema.clone());
            assert!(known.is_none_or(|known| known == schema), "two types are called {name}");
        }
        RefOr::Ref(Ref::from_schema_name(T::name()))
    }
}

/// How a table names a type.
pub type SchemaOf = fn(&mut Schemas) -> RefOr<Schema>;

/// The schema of `T`.
pub fn of<T: ToSchema>(schemas: &mut Schemas) -> RefOr<Schema> {
    schemas.of::<T>()
}

/// Bytes, of which nothing is known.
pub fn bytes(_: &mut Schemas) -> RefOr<Schema> {
    // The words of OpenAPI 3.0, which every tool knows; 3.1 would leave the schema out.
    let binary = SchemaFormat::KnownFormat(KnownFormat::Binary);
    ObjectBuilder::new().schema_type(Type::String).format(Some(binary)).into()
}

/// Anything, as in streams: tools hold each event of a stream against the schema.
pub fn anything(_: &mut Schemas) -> RefOr<Schema> {
    ObjectBuilder::new().schema_type(SchemaType::AnyValue).into()
}

/// A text.
pub fn text(_: &mut Schemas) -> RefOr<Schema> {
    ObjectBuilder::new().schema_type(Type::String).into()
}
