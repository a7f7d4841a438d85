// The workload of ../workload.md with the Go driver. It has no exhaust cursors.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/bson"
	"go.mongodb.org/mongo-driver/bson/primitive"
	"go.mongodb.org/mongo-driver/event"
	"go.mongodb.org/mongo-driver/mongo"
	"go.mongodb.org/mongo-driver/mongo/gridfs"
	"go.mongodb.org/mongo-driver/mongo/options"
	"go.mongodb.org/mongo-driver/mongo/writeconcern"
)

var (
	ctx        = context.Background()
	client     *mongo.Client
	db         *mongo.Database
	operations int64
)

// line is one event as it is written to the events file.
type line struct {
	Event              string          `json:"event"`
	CommandName        string          `json:"commandName"`
	DatabaseName       string          `json:"databaseName,omitempty"`
	RequestID          int64           `json:"requestId"`
	ServerConnectionID *int32          `json:"serverConnectionId,omitempty"`
	DurationMicros     *int64          `json:"durationMicros,omitempty"`
	Command            json.RawMessage `json:"command,omitempty"`
	Reply              json.RawMessage `json:"reply,omitempty"`
	Failure            string          `json:"failure,omitempty"`
}

// monitor writes each command event to a file, as one JSON object a line.
func monitor(path string) *event.CommandMonitor {
	file, err := os.Create(path)
	must("events", err)
	var lock sync.Mutex
	write := func(l line) {
		var text bytes.Buffer
		encoder := json.NewEncoder(&text)
		encoder.SetEscapeHTML(false)
		must("event", encoder.Encode(l))
		lock.Lock()
		defer lock.Unlock()
		_, err := file.Write(text.Bytes())
		must("event", err)
	}
	canonical := func(document bson.Raw) json.RawMessage {
		text, err := bson.MarshalExtJSON(document, true, false)
		must("event", err)
		return text
	}
	finished := func(name string, e event.CommandFinishedEvent) line {
		micros := e.DurationNanos / 1000
		return line{Event: name, CommandName: e.CommandName, RequestID: e.RequestID,
			ServerConnectionID: e.ServerConnectionID, DurationMicros: &micros}
	}
	return &event.CommandMonitor{
		Started: func(_ context.Context, e *event.CommandStartedEvent) {
			write(line{Event: "commandStartedEvent", CommandName: e.CommandName, DatabaseName: e.DatabaseName,
				RequestID: e.RequestID, ServerConnectionID: e.ServerConnectionID, Command: canonical(e.Command)})
		},
		Succeeded: func(_ context.Context, e *event.CommandSucceededEvent) {
			l := finished("commandSucceededEvent", e.CommandFinishedEvent)
			l.Reply = canonical(e.Reply)
			write(l)
		},
		Failed: func(_ context.Context, e *event.CommandFailedEvent) {
			l := finished("commandFailedEvent", e.CommandFinishedEvent)
			l.Failure = e.Failure
			write(l)
		},
	}
}

func must(what string, err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", what, err)
		os.Exit(1)
	}
}

// expect counts an operation whose result is the wanted one, and ends the program where it is not.
func expect(what string, got, wanted interface{}) {
	if !reflect.DeepEqual(got, wanted) {
		must(what, fmt.Errorf("got %.500v, wanted %.500v", got, wanted))
	}
	atomic.AddInt64(&operations, 1)
}

// until reads until an unacknowledged write has taken effect.
func until(what string, filter bson.D, wanted int64) {
	end := time.Now().Add(5 * time.Second)
	for count("unacked", filter) != wanted && time.Now().Before(end) {
		time.Sleep(20 * time.Millisecond)
	}
	expect(what, count("unacked", filter), wanted)
}

func count(collection string, filter bson.D) int64 {
	n, err := db.Collection(collection).CountDocuments(ctx, filter)
	must("count", err)
	return n
}

// all reads a cursor to its end.
func all(what string, cursor *mongo.Cursor, err error) []bson.M {
	must(what, err)
	var found []bson.M
	must(what, cursor.All(ctx, &found))
	return found
}

// code is that of a server's error or of the only write error.
func code(err error) int {
	var command mongo.CommandError
	var write mongo.WriteException
	switch {
	case errors.As(err, &command):
		return int(command.Code)
	case errors.As(err, &write) && len(write.WriteErrors) == 1:
		return write.WriteErrors[0].Code
	}
	return 0
}

func start() {
	must("ping", client.Database("admin").RunCommand(ctx, bson.D{{"ping", 1}}).Err())
	must("drop database", db.Drop(ctx))
}

func writes() {
	one, err := db.Collection("single").InsertOne(ctx, bson.D{{"_id", 1}, {"text", "one"}})
	must("insert one", err)
	expect("insert one", one.InsertedID, int32(1))
	var items []interface{}
	for i := 0; i < 250; i++ {
		items = append(items, bson.D{{"_id", i}, {"n", i}, {"group", i % 5}, {"name", fmt.Sprintf("item-%d", i)}})
	}
	many, err := db.Collection("items").InsertMany(ctx, items)
	must("insert many", err)
	expect("insert many", len(many.InsertedIDs), 250)

	insert := func(document bson.D) mongo.WriteModel { return mongo.NewInsertOneModel().SetDocument(document) }
	id := func(id int) bson.D { return bson.D{{"_id", id}} }
	set := func(v int) bson.D { return bson.D{{"$set", bson.D{{"v", v}}}} }
	bulk := db.Collection("bulk")
	result, err := bulk.BulkWrite(ctx, []mongo.WriteModel{
		insert(bson.D{{"_id", 1}, {"v", 1}}), insert(bson.D{{"_id", 2}, {"v", 2}}), insert(bson.D{{"_id", 3}, {"v", 3}}),
		mongo.NewUpdateOneModel().SetFilter(id(1)).SetUpdate(set(10)),
		mongo.NewUpdateManyModel().SetFilter(bson.D{{"v", bson.D{{"$gte", 2}}}}).SetUpdate(bson.D{{"$inc", bson.D{{"v", 1}}}}),
		mongo.NewReplaceOneModel().SetFilter(id(2)).SetReplacement(bson.D{{"v", 20}}),
		mongo.NewDeleteOneModel().SetFilter(id(3)),
		mongo.NewUpdateOneModel().SetFilter(id(4)).SetUpdate(set(40)).SetUpsert(true),
	})
	must("ordered bulk", err)
	counts := []int64{result.InsertedCount, result.MatchedCount, result.DeletedCount, result.UpsertedCount}
	expect("ordered bulk", counts, []int64{3, 5, 1, 1})
	result, err = bulk.BulkWrite(ctx, []mongo.WriteModel{
		insert(id(5)), insert(id(1)), insert(id(6)), mongo.NewDeleteOneModel().SetFilter(id(4)),
	}, options.BulkWrite().SetOrdered(false))
	var failed mongo.BulkWriteException
	expect("unordered bulk", errors.As(err, &failed) && len(failed.WriteErrors) == 1, true)
	expect("write error", []int{failed.WriteErrors[0].Index, failed.WriteErrors[0].Code}, []int{1, 11000})
	expect("unordered counts", []int64{result.InsertedCount, result.DeletedCount}, []int64{2, 1})
	expect("bulk count", count("bulk", bson.D{}), int64(4))
}

func unacknowledged() {
	unacked := db.Collection("unacked")
	blind := db.Collection("unacked", options.Collection().SetWriteConcern(writeconcern.New(writeconcern.W(0))))
	ping := bson.D{{"ping", 1}}
	_, err := blind.InsertOne(ctx, bson.D{{"_id", 1}, {"v", 1}})
	expect("w:0 insert", err, mongo.ErrUnacknowledgedWrite)
	_, err = unacked.InsertOne(ctx, bson.D{{"_id", 2}, {"v", 2}})
	must("insert", err)
	until("w:0 insert read", bson.D{}, 2)
	_, err = blind.UpdateOne(ctx, bson.D{{"_id", 2}}, bson.D{{"$set", bson.D{{"v", 20}}}})
	expect("w:0 update", err, mongo.ErrUnacknowledgedWrite)
	must("ping", db.RunCommand(ctx, ping).Err())
	until("w:0 update read", bson.D{{"_id", 2}, {"v", 20}}, 1)
	_, err = blind.DeleteOne(ctx, bson.D{{"_id", 1}})
	expect("w:0 delete", err, mongo.ErrUnacknowledgedWrite)
	must("ping", db.RunCommand(ctx, ping).Err())
	until("w:0 delete read", bson.D{}, 1)
}

func reads() {
	items := db.Collection("items")
	cursor, err := items.Find(ctx, bson.D{}, options.Find().SetSort(bson.D{{"_id", 1}}).SetBatchSize(50))
	found := all("find in batches", cursor, err)
	expect("find in batches", len(found), 250)
	for i, each := range found {
		if each["_id"] != int32(i) {
			must("find in batches", fmt.Errorf("%v at %d", each["_id"], i))
		}
	}
	some := options.Find().SetSort(bson.D{{"n", -1}}).SetLimit(7).SetProjection(bson.D{{"_id", 0}, {"n", 1}})
	cursor, err = items.Find(ctx, bson.D{{"group", 3}}, some)
	var wanted []bson.M
	for n := int32(248); n >= 218; n -= 5 {
		wanted = append(wanted, bson.M{"n": n})
	}
	expect("find with limit", all("find with limit", cursor, err), wanted)
	cursor, err = items.Find(ctx, bson.D{}, options.Find().SetBatchSize(2))
	must("find three", err)
	expect("find three", cursor.Next(ctx) && cursor.Next(ctx) && cursor.Next(ctx), true)
	must("close", cursor.Close(ctx))
	expect("count", count("items", bson.D{{"group", 1}}), int64(50))
	estimated, err := items.EstimatedDocumentCount(ctx)
	must("estimated count", err)
	expect("estimated count", estimated, int64(250))
	groups, err := items.Distinct(ctx, "group", bson.D{})
	must("distinct", err)
	expect("distinct", groups, []interface{}{int32(0), int32(1), int32(2), int32(3), int32(4)})
}

func aggregates() {
	items := db.Collection("items")
	sort := bson.D{{"$sort", bson.D{{"_id", 1}}}}
	group := bson.D{{"$group", bson.D{{"_id", "$group"}, {"sum", bson.D{{"$sum", "$n"}}}}}}
	cursor, err := items.Aggregate(ctx, mongo.Pipeline{group, sort})
	var wanted []bson.M
	for i := int32(0); i < 5; i++ {
		wanted = append(wanted, bson.M{"_id": i, "sum": 6125 + 50*i})
	}
	expect("group", all("group", cursor, err), wanted)
	cursor, err = items.Aggregate(ctx, mongo.Pipeline{sort}, options.Aggregate().SetBatchSize(20))
	expect("aggregate in batches", len(all("aggregate in batches", cursor, err)), 250)

	objectID, _ := primitive.ObjectIDFromHex("0123456789abcdef01234567")
	decimal, _ := primitive.ParseDecimal128("1.10")
	early := time.Date(1901, 2, 3, 4, 5, 6, 0, time.UTC)
	types := bson.D{
		{"_id", "types"}, {"double", 1.5}, {"nan", math.NaN()}, {"negativeZero", math.Copysign(0, -1)},
		{"infinity", math.Inf(1)}, {"string", "plain"}, {"emptyString", ""}, {"unicode", "žluťoučký kůň 🐎"}, {"nul", "a\x00b"},
		{"nested", bson.D{{"a", bson.D{{"b", bson.D{{"c", 1}}}}}}}, {"emptyDocument", bson.D{}},
		{"array", bson.A{1, "two", bson.A{3.0}, bson.D{{"four", 4}}, bson.A{}}},
		{"binary", primitive.Binary{Data: []byte{0, 1, 2, 255}}},
		{"uuid", primitive.Binary{Subtype: 4, Data: []byte("\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff")}},
		{"objectId", objectID}, {"true", true}, {"false", false},
		{"date", time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC)}, {"earlyDate", early}, {"null", nil},
		{"regex", primitive.Regex{Pattern: "^a.*b$", Options: "im"}}, {"code", primitive.JavaScript("function () {}")},
		{"int32", int32(math.MaxInt32)}, {"int64", int64(9007199254740993)}, {"decimal128", decimal},
		{"timestamp", primitive.Timestamp{T: 1, I: 2}}, {"minKey", primitive.MinKey{}}, {"maxKey", primitive.MaxKey{}},
		{"", "empty key"},
	}
	sent, err := bson.Marshal(types)
	must("types", err)
	_, err = db.Collection("types").InsertOne(ctx, types)
	must("types", err)
	back, err := db.Collection("types").FindOne(ctx, bson.D{{"_id", "types"}}).DecodeBytes()
	must("types", err)
	expect("types", bytes.Equal(back, sent), true)
}

func changes() {
	items := db.Collection("items")
	id := func(id interface{}) bson.D { return bson.D{{"_id", id}} }
	updated, err := items.UpdateOne(ctx, id(1), bson.D{{"$set", bson.D{{"touched", true}}}})
	must("update one", err)
	expect("update one", updated.ModifiedCount, int64(1))
	updated, err = items.UpdateMany(ctx, bson.D{{"group", 2}}, bson.D{{"$inc", bson.D{{"n", 1000}}}})
	must("update many", err)
	expect("update many", updated.ModifiedCount, int64(50))
	updated, err = items.ReplaceOne(ctx, id("up"), bson.D{{"name", "upserted"}}, options.Replace().SetUpsert(true))
	must("upsert", err)
	expect("upsert", updated.UpsertedID, "up")
	deleted, err := items.DeleteOne(ctx, id("up"))
	must("delete one", err)
	expect("delete one", deleted.DeletedCount, int64(1))
	deleted, err = items.DeleteMany(ctx, bson.D{{"group", 4}})
	must("delete many", err)
	expect("delete many", deleted.DeletedCount, int64(50))

	named := func(what, wanted string, result *mongo.SingleResult) {
		var found struct{ Name string }
		must(what, result.Decode(&found))
		expect(what, found.Name, wanted)
	}
	after := options.FindOneAndUpdate().SetReturnDocument(options.After)
	named("find and update", "after", items.FindOneAndUpdate(ctx, id(5), bson.D{{"$set", bson.D{{"name", "after"}}}}, after))
	named("find and replace", "item-6", items.FindOneAndReplace(ctx, id(6), bson.D{{"name", "replaced"}}))
	named("find and delete", "item-7", items.FindOneAndDelete(ctx, id(7)))
}

func schema() {
	items, keyed := db.Collection("items").Indexes(), db.Collection("keyed").Indexes()
	name, err := items.CreateOne(ctx, mongo.IndexModel{Keys: bson.D{{"n", 1}}})
	must("create index", err)
	expect("create index", name, "n_1")
	unique := mongo.IndexModel{Keys: bson.D{{"key", 1}}, Options: options.Index().SetUnique(true)}
	name, err = keyed.CreateOne(ctx, unique)
	must("create unique index", err)
	expect("create unique index", name, "key_1")
	cursor, err := keyed.List(ctx)
	expect("list indexes", len(all("list indexes", cursor, err)), 2)
	_, err = items.DropOne(ctx, "n_1")
	must("drop index", err)
	cursor, err = items.List(ctx)
	expect("drop index", len(all("drop index", cursor, err)), 1)

	created := func() []string {
		names, err := db.ListCollectionNames(ctx, bson.D{{"name", "created"}})
		must("list collections", err)
		return names
	}
	must("create collection", db.CreateCollection(ctx, "created"))
	expect("create collection", created(), []string{"created"})
	must("drop collection", db.Collection("created").Drop(ctx))
	expect("drop collection", len(created()), 0)
	names, err := client.ListDatabaseNames(ctx, bson.D{})
	must("list databases", err)
	expect("list databases", strings.Contains(" "+strings.Join(names, " ")+" ", " "+db.Name()+" "), true)
}

func failures() {
	expect("unknown command", code(db.RunCommand(ctx, bson.D{{"mongotapNoSuchCommand", 1}}).Err()), 59)
	bad := bson.D{{"n", bson.D{{"$noSuchOperator", 1}}}}
	expect("bad operator", code(db.Collection("items").FindOne(ctx, bad).Err()), 2)
	_, err := db.Collection("single").InsertOne(ctx, bson.D{{"_id", 1}})
	expect("duplicate key", code(err), 11000)
	_, err = db.Collection("single").UpdateOne(ctx, bson.D{{"_id", 1}}, bson.D{{"$noSuchModifier", bson.D{{"n", 1}}}})
	expect("bad modifier", code(err), 9)
}

func sizeAndConcurrency() {
	text := strings.Repeat("x", 1<<20)
	_, err := db.Collection("large").InsertOne(ctx, bson.D{{"_id", 1}, {"text", text}})
	must("large document", err)
	var large struct{ Text string }
	must("large document", db.Collection("large").FindOne(ctx, bson.D{{"_id", 1}}).Decode(&large))
	expect("large document", large.Text, text)

	var workers sync.WaitGroup
	for worker := 0; worker < 4; worker++ {
		workers.Add(1)
		go func(worker int) {
			defer workers.Done()
			for i := 0; i < 5; i++ {
				result, err := db.Collection("parallel").InsertOne(ctx, bson.D{{"_id", 10*worker + i}})
				must("parallel insert", err)
				expect("parallel insert", result.InsertedID, int32(10*worker+i))
			}
		}(worker)
	}
	workers.Wait()
	expect("parallel count", count("parallel", bson.D{}), int64(20))
}

func files() {
	content := make([]byte, 300_000)
	for i := range content {
		content[i] = byte(i * 31 % 251)
	}
	bucket, err := gridfs.NewBucket(db, options.GridFSBucket().SetChunkSizeBytes(65_536))
	must("bucket", err)
	id, err := bucket.UploadFromStream("file", bytes.NewReader(content))
	must("upload", err)
	expect("chunks", count("fs.chunks", bson.D{}), int64(5))
	var back bytes.Buffer
	_, err = bucket.DownloadToStream(id, &back)
	must("download", err)
	expect("download", bytes.Equal(back.Bytes(), content), true)
}

func main() {
	opts := options.Client().ApplyURI(os.Getenv("MONGODB_URI")).SetAppName("mongotap-test-go")
	if path := os.Getenv("MONGOTAP_TEST_EVENTS"); path != "" {
		opts.SetMonitor(monitor(path))
	}
	var err error
	client, err = mongo.Connect(ctx, opts)
	must("connect", err)
	db = client.Database(os.Getenv("MONGOTAP_TEST_DB"))
	for _, step := range []func(){
		start, writes, unacknowledged, reads, aggregates, changes, schema, failures, sizeAndConcurrency, files,
	} {
		step()
	}
	must("disconnect", client.Disconnect(ctx))
	fmt.Printf("ok %d\n", operations)
}
