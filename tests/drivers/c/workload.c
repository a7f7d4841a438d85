/* The workload of ../workload.md with the C driver, libmongoc.
 *
 * Documents are written as Extended JSON with single quotes, and live until the program ends.
 * libmongoc has no exhaust cursors over OP_MSG.
 */

#include <mongoc/mongoc.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>

static mongoc_client_pool_t *pool;
static mongoc_client_t *client;
static mongoc_database_t *db;
static const char *db_name;
static int operations;
static FILE *events;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- events ---- */

static void record (const char *event, const char *command, const char *database, int64_t request, int32_t server_connection,
                    int64_t micros, const char *field, const bson_t *document)
{
   char *json = bson_as_canonical_extended_json (document, NULL);
   pthread_mutex_lock (&lock);
   fprintf (events, "{\"event\":\"%s\",\"commandName\":\"%s\",\"requestId\":%lld", event, command, (long long) request);
   if (database) fprintf (events, ",\"databaseName\":\"%s\"", database);
   if (server_connection >= 0) fprintf (events, ",\"serverConnectionId\":%d", server_connection);
   if (micros >= 0) fprintf (events, ",\"durationMicros\":%lld", (long long) micros);
   fprintf (events, ",\"%s\":%s}\n", field, json);
   fflush (events);
   pthread_mutex_unlock (&lock);
   bson_free (json);
}

static void started (const mongoc_apm_command_started_t *e)
{
   record ("commandStartedEvent", mongoc_apm_command_started_get_command_name (e),
           mongoc_apm_command_started_get_database_name (e), mongoc_apm_command_started_get_request_id (e),
           mongoc_apm_command_started_get_server_connection_id (e), -1, "command",
           mongoc_apm_command_started_get_command (e));
}

static void succeeded (const mongoc_apm_command_succeeded_t *e)
{
   record ("commandSucceededEvent", mongoc_apm_command_succeeded_get_command_name (e), NULL,
           mongoc_apm_command_succeeded_get_request_id (e), mongoc_apm_command_succeeded_get_server_connection_id (e),
           mongoc_apm_command_succeeded_get_duration (e), "reply", mongoc_apm_command_succeeded_get_reply (e));
}

static void failed (const mongoc_apm_command_failed_t *e)
{
   record ("commandFailedEvent", mongoc_apm_command_failed_get_command_name (e), NULL,
           mongoc_apm_command_failed_get_request_id (e), mongoc_apm_command_failed_get_server_connection_id (e),
           mongoc_apm_command_failed_get_duration (e), "failure", mongoc_apm_command_failed_get_reply (e));
}

/* ---- checks ---- */

static void die (const char *what, const char *why)
{
   fprintf (stderr, "%s: %s\n", what, why);
   exit (1);
}

/* Counts an operation whose result is the wanted one; ends the program where it is not. */
static void expect (const char *what, int64_t got, int64_t wanted)
{
   if (got != wanted) {
      fprintf (stderr, "%s: got %lld, wanted %lld\n", what, (long long) got, (long long) wanted);
      exit (1);
   }
   pthread_mutex_lock (&lock);
   operations++;
   pthread_mutex_unlock (&lock);
}

static void check (const char *what, bool good, const bson_error_t *error)
{
   if (!good) die (what, error->message);
}

static bson_t *doc (const char *format, ...)
{
   char text[2048];
   bson_error_t error;
   va_list arguments;
   va_start (arguments, format);
   vsnprintf (text, sizeof text, format, arguments);
   va_end (arguments);
   for (char *at = text; *at; at++)
      if (*at == '\'') *at = '"';
   bson_t *made = bson_new_from_json ((const uint8_t *) text, -1, &error);
   if (!made) die (text, error.message);
   return made;
}

/* The number or boolean at a dotted path of a document; -1 where there is none. */
static int64_t number (const bson_t *document, const char *path)
{
   bson_iter_t top, found;
   if (!bson_iter_init (&top, document) || !bson_iter_find_descendant (&top, path, &found)) return -1;
   return bson_iter_as_int64 (&found);
}

static const char *string (const bson_t *document, const char *path)
{
   bson_iter_t top, found;
   if (!bson_iter_init (&top, document) || !bson_iter_find_descendant (&top, path, &found)) return "";
   return bson_iter_utf8 (&found, NULL);
}

static mongoc_collection_t *coll (const char *name)
{
   return mongoc_client_get_collection (client, db_name, name);
}

/* Runs a command and gives its reply, or 0 and the error's code in `code`. */
static bson_t *command (const char *database, const bson_t *body, int *code)
{
   bson_error_t error = {0};
   bson_t *reply = bson_new ();
   bool good = mongoc_client_command_simple (client, database, body, NULL, reply, &error);
   if (code) *code = (int) error.code;
   else check ("command", good, &error);
   return reply;
}

static int count (mongoc_collection_t *c, const bson_t *filter)
{
   bson_error_t error;
   int64_t n = mongoc_collection_count_documents (c, filter, NULL, NULL, NULL, &error);
   check ("count", n >= 0, &error);
   return (int) n;
}

/* Reads up to `limit` documents of a cursor, closes it, and gives their number and a copy of the last one. */
static int drain (mongoc_cursor_t *cursor, int limit, bson_t **last)
{
   const bson_t *document;
   bson_error_t error;
   int n = 0;
   while (n < limit && mongoc_cursor_next (cursor, &document)) {
      if (last) *last = bson_copy (document);
      n++;
   }
   if (mongoc_cursor_error (cursor, &error)) die ("cursor", error.message);
   mongoc_cursor_destroy (cursor);
   return n;
}

static bson_t *find_one (const char *collection, const bson_t *filter)
{
   bson_t *found = NULL;
   bson_t *opts = doc ("{'limit': 1, 'singleBatch': true}");
   expect ("find one", drain (mongoc_collection_find_with_opts (coll (collection), filter, opts, NULL), 1, &found), 1);
   return found;
}

/* Reads until an unacknowledged write has taken effect. */
static void until (const char *what, const char *filter, int wanted)
{
   mongoc_collection_t *c = coll ("unacked");
   int64_t end = bson_get_monotonic_time () + 5000000;
   int got;
   while ((got = count (c, doc (filter))) != wanted && bson_get_monotonic_time () < end) usleep (20000);
   expect (what, got, wanted);
}

/* ---- the steps ---- */

static void start (void)
{
   bson_error_t error;
   expect ("ping", number (command ("admin", doc ("{'ping': 1}"), NULL), "ok"), 1);
   check ("drop database", mongoc_database_drop (db, &error), &error);
}

static void writes (void)
{
   bson_error_t error;
   bool good;
   bson_t reply;
   good = mongoc_collection_insert_one (coll ("single"), doc ("{'_id': 1, 'text': 'one'}"), NULL, &reply, &error);
   check ("insert one", good, &error);
   expect ("insert one", number (&reply, "insertedCount"), 1);
   const bson_t *items[250];
   for (int i = 0; i < 250; i++) items[i] = doc ("{'_id': %d, 'n': %d, 'group': %d, 'name': 'item-%d'}", i, i, i % 5, i);
   check ("insert many", mongoc_collection_insert_many (coll ("items"), items, 250, NULL, &reply, &error), &error);
   expect ("insert many", number (&reply, "insertedCount"), 250);

   mongoc_bulk_operation_t *bulk = mongoc_collection_create_bulk_operation_with_opts (coll ("bulk"), NULL);
   for (int i = 1; i <= 3; i++) mongoc_bulk_operation_insert (bulk, doc ("{'_id': %d, 'v': %d}", i, i));
   mongoc_bulk_operation_update_one (bulk, doc ("{'_id': 1}"), doc ("{'$set': {'v': 10}}"), false);
   mongoc_bulk_operation_update (bulk, doc ("{'v': {'$gte': 2}}"), doc ("{'$inc': {'v': 1}}"), false);
   mongoc_bulk_operation_replace_one (bulk, doc ("{'_id': 2}"), doc ("{'v': 20}"), false);
   mongoc_bulk_operation_remove_one (bulk, doc ("{'_id': 3}"));
   mongoc_bulk_operation_update_one (bulk, doc ("{'_id': 4}"), doc ("{'$set': {'v': 40}}"), true);
   check ("ordered bulk", mongoc_bulk_operation_execute (bulk, &reply, &error), &error);
   expect ("bulk inserted", number (&reply, "nInserted"), 3);
   expect ("bulk matched", number (&reply, "nMatched"), 5);
   expect ("bulk removed", number (&reply, "nRemoved"), 1);
   expect ("bulk upserted", number (&reply, "nUpserted"), 1);

   bulk = mongoc_collection_create_bulk_operation_with_opts (coll ("bulk"), doc ("{'ordered': false}"));
   mongoc_bulk_operation_insert (bulk, doc ("{'_id': 5}"));
   mongoc_bulk_operation_insert (bulk, doc ("{'_id': 1}"));
   mongoc_bulk_operation_insert (bulk, doc ("{'_id': 6}"));
   mongoc_bulk_operation_remove_one (bulk, doc ("{'_id': 4}"));
   expect ("unordered bulk", mongoc_bulk_operation_execute (bulk, &reply, &error), 0);
   expect ("write error", number (&reply, "writeErrors.0.code"), 11000);
   expect ("write error index", number (&reply, "writeErrors.0.index"), 1);
   expect ("only one write error", number (&reply, "writeErrors.1.code"), -1);
   expect ("unordered inserted", number (&reply, "nInserted"), 2);
   expect ("unordered removed", number (&reply, "nRemoved"), 1);
   expect ("bulk count", count (coll ("bulk"), doc ("{}")), 4);
}

static void unacknowledged (void)
{
   bson_error_t error;
   bool good;
   bson_t *blind = doc ("{'writeConcern': {'w': 0}}");
   mongoc_collection_t *c = coll ("unacked");
   check ("w:0 insert", mongoc_collection_insert_one (c, doc ("{'_id': 1, 'v': 1}"), blind, NULL, &error), &error);
   check ("insert", mongoc_collection_insert_one (c, doc ("{'_id': 2, 'v': 2}"), NULL, NULL, &error), &error);
   until ("w:0 insert", "{}", 2);
   good = mongoc_collection_update_one (c, doc ("{'_id': 2}"), doc ("{'$set': {'v': 20}}"), blind, NULL, &error);
   check ("w:0 update", good, &error);
   command (db_name, doc ("{'ping': 1}"), NULL);
   until ("w:0 update", "{'_id': 2, 'v': 20}", 1);
   check ("w:0 delete", mongoc_collection_delete_one (c, doc ("{'_id': 1}"), blind, NULL, &error), &error);
   command (db_name, doc ("{'ping': 1}"), NULL);
   until ("w:0 delete", "{}", 1);
}

static void reads (void)
{
   bson_error_t error;
   bson_t *last = NULL;
   mongoc_collection_t *items = coll ("items");
   bson_t *all = doc ("{}");
   int n = drain (mongoc_collection_find_with_opts (items, all, doc ("{'sort': {'_id': 1}, 'batchSize': 50}"), NULL), 1000, &last);
   expect ("find in batches", n, 250);
   expect ("the last of them", number (last, "_id"), 249);
   bson_t *opts = doc ("{'sort': {'n': -1}, 'limit': 7, 'projection': {'_id': 0, 'n': 1}}");
   expect ("find with limit", drain (mongoc_collection_find_with_opts (items, doc ("{'group': 3}"), opts, NULL), 1000, &last), 7);
   expect ("projection", bson_equal (last, doc ("{'n': 218}")), 1);
   expect ("find three", drain (mongoc_collection_find_with_opts (items, all, doc ("{'batchSize': 2}"), NULL), 3, NULL), 3);
   expect ("count", count (items, doc ("{'group': 1}")), 50);
   expect ("estimated count", mongoc_collection_estimated_document_count (items, NULL, NULL, NULL, &error), 250);
   bson_t *reply = command (db_name, doc ("{'distinct': 'items', 'key': 'group'}"), NULL);
   expect ("distinct", number (reply, "values.4"), 4);
   expect ("no more of them", number (reply, "values.5"), -1);
}

static void aggregates (void)
{
   bson_error_t error;
   bson_t *last = NULL;
   mongoc_collection_t *items = coll ("items");
   bson_t *sums = doc ("{'pipeline': [{'$group': {'_id': '$group', 'sum': {'$sum': '$n'}}}, {'$sort': {'_id': 1}}]}");
   expect ("group", drain (mongoc_collection_aggregate (items, MONGOC_QUERY_NONE, sums, NULL, NULL), 1000, &last), 5);
   expect ("sum", bson_equal (last, doc ("{'_id': 4, 'sum': 6325}")), 1);
   bson_t *sorted = doc ("{'pipeline': [{'$sort': {'_id': 1}}]}");
   int n = drain (mongoc_collection_aggregate (items, MONGOC_QUERY_NONE, sorted, doc ("{'batchSize': 20}"), NULL), 1000, NULL);
   expect ("aggregate in batches", n, 250);

   bson_t *types = doc (
      "{'_id': 'types', 'double': 1.5, 'nan': {'$numberDouble': 'NaN'}, 'negativeZero': {'$numberDouble': '-0.0'},"
      " 'infinity': {'$numberDouble': 'Infinity'}, 'string': 'plain', 'emptyString': '', 'unicode': 'žluťoučký kůň 🐎',"
      " 'nested': {'a': {'b': {'c': 1}}}, 'emptyDocument': {}, 'array': [1, 'two', [3.0], {'four': 4}, []],"
      " 'binary': {'$binary': {'base64': 'AAEC/w==', 'subType': '00'}},"
      " 'uuid': {'$binary': {'base64': 'ABEiM0RVZneImaq7zN3u/w==', 'subType': '04'}},"
      " 'objectId': {'$oid': '0123456789abcdef01234567'}, 'true': true, 'false': false,"
      " 'date': {'$date': {'$numberLong': '1767323045678'}}, 'earlyDate': {'$date': {'$numberLong': '-2174586894000'}},"
      " 'null': null, 'regex': {'$regularExpression': {'pattern': '^a.*b$', 'options': 'im'}}, 'code': {'$code': 'function () {}'},"
      " 'int32': 2147483647, 'int64': {'$numberLong': '9007199254740993'}, 'decimal128': {'$numberDecimal': '1.10'},"
      " 'timestamp': {'$timestamp': {'t': 1, 'i': 2}}, 'minKey': {'$minKey': 1}, 'maxKey': {'$maxKey': 1}, '': 'empty key'}");
   bson_append_utf8 (types, "nul", -1, "a\0b", 3);
   bson_t *unchecked = doc ("{'validate': false}"); /* libmongoc would refuse the empty key */
   check ("types", mongoc_collection_insert_one (coll ("types"), types, unchecked, NULL, &error), &error);
   expect ("types", bson_equal (find_one ("types", doc ("{'_id': 'types'}")), types), 1);
}

/* Runs a findAndModify and gives the name in the document it returns. */
static const char *modify (const char *filter, const char *update, mongoc_find_and_modify_flags_t flags)
{
   bson_error_t error;
   bool good;
   bson_t *reply = bson_new ();
   mongoc_find_and_modify_opts_t *opts = mongoc_find_and_modify_opts_new ();
   if (update) mongoc_find_and_modify_opts_set_update (opts, doc (update));
   mongoc_find_and_modify_opts_set_flags (opts, flags);
   good = mongoc_collection_find_and_modify_with_opts (coll ("items"), doc (filter), opts, reply, &error);
   check ("find and modify", good, &error);
   mongoc_find_and_modify_opts_destroy (opts);
   return string (reply, "value.name");
}

static void changes (void)
{
   bson_error_t error;
   bool good;
   bson_t reply;
   mongoc_collection_t *c = coll ("items");
   good = mongoc_collection_update_one (c, doc ("{'_id': 1}"), doc ("{'$set': {'touched': true}}"), NULL, &reply, &error);
   check ("update one", good, &error);
   expect ("update one", number (&reply, "modifiedCount"), 1);
   good = mongoc_collection_update_many (c, doc ("{'group': 2}"), doc ("{'$inc': {'n': 1000}}"), NULL, &reply, &error);
   check ("update many", good, &error);
   expect ("update many", number (&reply, "modifiedCount"), 50);
   good = mongoc_collection_replace_one (c, doc ("{'_id': 'up'}"), doc ("{'name': 'upserted'}"), doc ("{'upsert': true}"), &reply, &error);
   check ("upsert", good, &error);
   expect ("upsert", strcmp (string (&reply, "upsertedId"), "up"), 0);
   check ("delete one", mongoc_collection_delete_one (c, doc ("{'_id': 'up'}"), NULL, &reply, &error), &error);
   expect ("delete one", number (&reply, "deletedCount"), 1);
   check ("delete many", mongoc_collection_delete_many (c, doc ("{'group': 4}"), NULL, &reply, &error), &error);
   expect ("delete many", number (&reply, "deletedCount"), 50);
   expect ("find and update", strcmp (modify ("{'_id': 5}", "{'$set': {'name': 'after'}}", MONGOC_FIND_AND_MODIFY_RETURN_NEW), "after"), 0);
   expect ("find and replace", strcmp (modify ("{'_id': 6}", "{'name': 'replaced'}", MONGOC_FIND_AND_MODIFY_NONE), "item-6"), 0);
   expect ("find and delete", strcmp (modify ("{'_id': 7}", NULL, MONGOC_FIND_AND_MODIFY_REMOVE), "item-7"), 0);
}

static int created (void)
{
   return drain (mongoc_database_find_collections_with_opts (db, doc ("{'filter': {'name': 'created'}}")), 1000, NULL);
}

static void schema (void)
{
   bson_error_t error;
   command (db_name, doc ("{'createIndexes': 'items', 'indexes': [{'key': {'n': 1}, 'name': 'n_1'}]}"), NULL);
   command (db_name, doc ("{'createIndexes': 'keyed', 'indexes': [{'key': {'key': 1}, 'name': 'key_1', 'unique': true}]}"), NULL);
   bson_t *last = NULL;
   expect ("list indexes", drain (mongoc_collection_find_indexes_with_opts (coll ("keyed"), NULL), 1000, &last), 2);
   expect ("unique index", strcmp (string (last, "name"), "key_1"), 0);
   check ("drop index", mongoc_collection_drop_index (coll ("items"), "n_1", &error), &error);
   expect ("drop index", drain (mongoc_collection_find_indexes_with_opts (coll ("items"), NULL), 1000, NULL), 1);
   check ("create", mongoc_database_create_collection (db, "created", NULL, &error) != NULL, &error);
   expect ("create collection", created (), 1);
   check ("drop", mongoc_collection_drop (coll ("created"), &error), &error);
   expect ("drop collection", created (), 0);
   bson_t *opts = doc ("{'filter': {'name': '%s'}}", db_name);
   expect ("list databases", drain (mongoc_client_find_databases_with_opts (client, opts), 1000, NULL), 1);
}

static void failures (void)
{
   bson_error_t error;
   const bson_t *document;
   int code;
   command (db_name, doc ("{'mongotapNoSuchCommand': 1}"), &code);
   expect ("unknown command", code, 59);
   mongoc_cursor_t *cursor = mongoc_collection_find_with_opts (coll ("items"), doc ("{'n': {'$noSuchOperator': 1}}"), NULL, NULL);
   expect ("bad operator finds nothing", mongoc_cursor_next (cursor, &document), 0);
   expect ("bad operator", mongoc_cursor_error (cursor, &error) ? error.code : 0, 2);
   mongoc_cursor_destroy (cursor);
   bool good = mongoc_collection_insert_one (coll ("single"), doc ("{'_id': 1}"), NULL, NULL, &error);
   expect ("duplicate key", good ? 0 : error.code, 11000);
   bson_t *update = doc ("{'$noSuchModifier': {'n': 1}}");
   good = mongoc_collection_update_one (coll ("single"), doc ("{'_id': 1}"), update, NULL, NULL, &error);
   expect ("bad modifier", good ? 0 : error.code, 9);
}

static void *worker (void *argument)
{
   int number_of_worker = *(int *) argument;
   mongoc_client_t *own = mongoc_client_pool_pop (pool);
   mongoc_collection_t *parallel = mongoc_client_get_collection (own, db_name, "parallel");
   bson_error_t error;
   for (int i = 0; i < 5; i++)
      expect ("parallel insert", mongoc_collection_insert_one (parallel, doc ("{'_id': %d}", 10 * number_of_worker + i), NULL, NULL, &error), 1);
   mongoc_collection_destroy (parallel);
   mongoc_client_pool_push (pool, own);
   return NULL;
}

static void size_and_concurrency (void)
{
   enum { LENGTH = 1048576 };
   bson_error_t error;
   char *text = bson_malloc (LENGTH + 1);
   memset (text, 'x', LENGTH);
   text[LENGTH] = 0;
   bson_t *large = BCON_NEW ("_id", BCON_INT32 (1), "text", BCON_UTF8 (text));
   check ("large document", mongoc_collection_insert_one (coll ("large"), large, NULL, NULL, &error), &error);
   expect ("large document", bson_equal (find_one ("large", doc ("{'_id': 1}")), large), 1);

   pthread_t threads[4];
   int numbers[4] = {0, 1, 2, 3};
   for (int i = 0; i < 4; i++) pthread_create (&threads[i], NULL, worker, &numbers[i]);
   for (int i = 0; i < 4; i++) pthread_join (threads[i], NULL);
   expect ("parallel count", count (coll ("parallel"), doc ("{}")), 20);
}

static void files (void)
{
   enum { LENGTH = 300000 };
   static uint8_t content[LENGTH], back[LENGTH + 1];
   bson_error_t error;
   bson_value_t id;
   for (int i = 0; i < LENGTH; i++) content[i] = (uint8_t) (i * 31 % 251);
   mongoc_gridfs_bucket_t *bucket = mongoc_gridfs_bucket_new (db, doc ("{'chunkSizeBytes': 65536}"), NULL, &error);
   mongoc_stream_t *stream = mongoc_gridfs_bucket_open_upload_stream (bucket, "file", NULL, &id, &error);
   expect ("upload", mongoc_stream_write (stream, content, LENGTH, 0), LENGTH);
   expect ("close upload", mongoc_stream_close (stream), 0);
   mongoc_stream_destroy (stream);
   expect ("chunks", count (coll ("fs.chunks"), doc ("{}")), 5);
   stream = mongoc_gridfs_bucket_open_download_stream (bucket, &id, &error);
   expect ("download", mongoc_stream_read (stream, back, sizeof back, 0, 0), LENGTH);
   expect ("content", memcmp (content, back, LENGTH), 0);
   mongoc_stream_destroy (stream);
   mongoc_gridfs_bucket_destroy (bucket);
}

int main (void)
{
   const char *path = getenv ("MONGOTAP_TEST_EVENTS");
   bson_error_t error;
   mongoc_init ();
   db_name = getenv ("MONGOTAP_TEST_DB");
   mongoc_uri_t *uri = mongoc_uri_new_with_error (getenv ("MONGODB_URI"), &error);
   check ("MONGODB_URI", uri != NULL, &error);
   mongoc_uri_set_appname (uri, "mongotap-test-c");
   pool = mongoc_client_pool_new (uri);
   mongoc_client_pool_set_error_api (pool, MONGOC_ERROR_API_VERSION_2);
   if (path && *path) {
      mongoc_apm_callbacks_t *callbacks = mongoc_apm_callbacks_new ();
      mongoc_apm_set_command_started_cb (callbacks, started);
      mongoc_apm_set_command_succeeded_cb (callbacks, succeeded);
      mongoc_apm_set_command_failed_cb (callbacks, failed);
      events = fopen (path, "w");
      if (!events) die (path, "cannot be written");
      mongoc_client_pool_set_apm_callbacks (pool, callbacks, NULL);
   }
   client = mongoc_client_pool_pop (pool);
   db = mongoc_client_get_database (client, db_name);
   start ();
   writes ();
   unacknowledged ();
   reads ();
   aggregates ();
   changes ();
   schema ();
   failures ();
   size_and_concurrency ();
   files ();
   mongoc_database_destroy (db);
   mongoc_client_pool_push (pool, client);
   mongoc_client_pool_destroy (pool);
   mongoc_cleanup ();
   printf ("ok %d\n", operations);
   return 0;
}
