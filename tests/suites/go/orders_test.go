// Orders, at the server that MONGODB_URI names.
package orders

import (
	"context"
	"os"
	"testing"

	"go.mongodb.org/mongo-driver/bson"
	"go.mongodb.org/mongo-driver/mongo"
	"go.mongodb.org/mongo-driver/mongo/options"
)

func collection(t *testing.T) *mongo.Collection {
	ctx := context.Background()
	client, err := mongo.Connect(ctx, options.Client().ApplyURI(os.Getenv("MONGODB_URI")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Disconnect(ctx) })
	collection := client.Database("shop").Collection(t.Name())
	if err := collection.Drop(ctx); err != nil {
		t.Fatal(err)
	}
	return collection
}

func TestPaidOrdersAreCounted(t *testing.T) {
	t.Parallel()
	ctx, orders := context.Background(), collection(t)
	for _, status := range []string{"paid", "open", "paid"} {
		if _, err := orders.InsertOne(ctx, bson.M{"status": status}); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := orders.CountDocuments(ctx, bson.M{"status": "paid"}); err != nil || n != 2 {
		t.Fatal(n, err)
	}
}

func TestAnOrderIsFoundByItsId(t *testing.T) {
	t.Parallel()
	ctx, orders := context.Background(), collection(t)
	made, err := orders.InsertOne(ctx, bson.M{"item": "tea"})
	if err != nil {
		t.Fatal(err)
	}
	var order struct{ Item string }
	if err := orders.FindOne(ctx, bson.M{"_id": made.InsertedID}).Decode(&order); err != nil || order.Item != "tea" {
		t.Fatal(order, err)
	}
}
